"""What a vLLM server is told besides requests for samples: adapters, weights, its prefix cache.

It knows no versions: whoever publishes weights (:mod:`pivotrl.policies.vllm.publishing`) gives a name and a folder.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from typing import Any

from pivotrl.protocols import InputError
from pivotrl.protocols.endpoint import Endpoint, NoAnswer
from pivotrl.samplers.openai.models import model_rows

ADAPTERS_NEED = (
    "start vLLM with --enable-lora, --max-lora-rank at least the adapter's rank, and "
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 in its environment"
)
WEIGHTS_NEED = "start vLLM with VLLM_SERVER_DEV_MODE=1 in its environment"
_BRIEF_SECONDS = 10.0
_HASTY_TRIES = 3
_RESET_TRIES, _RESET_PAUSE = 20, 0.25


class Unreachable(InputError):
    """The server is gone, or busy for too long."""


class Server:
    """
    Args:
        endpoint: up to ``/v1``.
        served: the base model's name.
    """

    def __init__(self, endpoint: Endpoint, served: str) -> None:
        self.endpoint, self.served = endpoint, served
        root, key = endpoint.base_url.rstrip("/").removesuffix("/v1"), endpoint.key_variable
        self._root = Endpoint(endpoint.name, root, key, endpoint.deadline_seconds, endpoint.max_tries)
        self.brief = Endpoint(endpoint.name, endpoint.base_url, key, _BRIEF_SECONDS, max_tries=1)
        """Asked once, and not long, whether anybody is there."""
        self.hasty = dataclasses.replace(endpoint, max_tries=min(endpoint.max_tries, _HASTY_TRIES))
        """Asked for samples while another server could give them too."""

    def load_adapter(self, name: str, folder: str) -> None:
        """
        Raises:
            Unreachable: it does not answer.
            InputError: it does not load it; with the server's own words and the remedy.
        """
        fault = _asked(self.endpoint, "load_lora_adapter", {"lora_name": name, "lora_path": folder})
        if fault is not None and not (fault.reason == "refused" and self.has(name)):  # an answer that was lost
            start = f"the server at {self.endpoint.base_url} does not load the adapter {folder} ({fault})"
            if fault.reason == "unavailable":
                raise Unreachable(f"{start}; repeat the command when it is back")
            raise InputError(f"{start}: {self._remedy(folder)}")

    def unload_adapter(self, name: str) -> bool:
        """Whether it let the adapter go. Nothing depends on it, so a server that is gone holds nobody up."""
        try:
            return _asked(self.brief, "unload_lora_adapter", {"lora_name": name}) is None
        except InputError:
            return False

    def load_weights(self, folder: str) -> None:
        """Put the weights of a model folder in place of the present ones.

        Raises:
            Unreachable, InputError: as :meth:`load_adapter`.
        """
        body = {"method": "reload_weights", "kwargs": {"weights_path": folder}}
        if (fault := _asked(self._root, "collective_rpc", body)) is not None:
            start = f"the server at {self.endpoint.base_url} does not load the weights {folder} ({fault})"
            if fault.reason == "unavailable":
                raise Unreachable(f"{start}; repeat the command when it is back")
            raise InputError(
                f"{start}: {WEIGHTS_NEED}, and keep the folder where the server sees it under the same path (the "
                "option folder); or train an adapter with lora_rank"
            )

    def name_weights(self, name: str) -> None:
        """Tell it how its weights are called, so that a restart shows. Servers before vLLM 0.30 do not know it."""
        _asked(self._root, "update_weight_version", {"new_version": name})

    def named_weights(self) -> str | None:
        """How its weights are called; None if it does not say."""
        try:
            answer = self._root.get("weight_info")
            name = None if isinstance(answer, NoAnswer) else json.loads(answer)["weight_version"]
        except (InputError, ValueError, LookupError, TypeError):
            return None
        return name if isinstance(name, str) else None

    def reset_cache(self) -> bool:
        """Empty the prefix cache.

        Returns:
            whether it did. A server outside its developer mode offers no such call; there the name of the weights
            alone (``cache_salt``) keeps versions apart.
        """
        for _ in range(_RESET_TRIES):
            try:
                answer = self._root.post_all("reset_prefix_cache", [{}])[0]
                if isinstance(answer, NoAnswer) or json.loads(answer).get("success", True):
                    return not isinstance(answer, NoAnswer)
            except InputError:  # it does not know the path
                return False
            except (ValueError, AttributeError):  # older versions answer with nothing
                return True
            time.sleep(_RESET_PAUSE)  # a block is held until its request has left
        return False

    def is_there(self) -> bool:
        """Whether it answers now."""
        try:
            return not isinstance(self.brief.get("models"), NoAnswer)
        except InputError:
            return False

    def has(self, name: str) -> bool:
        """Whether it lists a model or adapter of that name."""
        return name in (self._rows() or {})

    def _rows(self) -> Mapping[str, Mapping[str, Any]] | None:
        return model_rows(self.endpoint.get("models"))

    def _remedy(self, folder: str) -> str:
        ours = sorted(name for name in self._rows() or () if name.startswith("pivotrl-"))
        if len(ours) > 1:
            return (
                f"it holds {len(ours)} adapters of earlier trainings ({', '.join(ours[:3])}, ...). Restart it, or "
                "unload them with a POST to unload_lora_adapter; and "
                f"{ADAPTERS_NEED}"
            )
        return f"{ADAPTERS_NEED}; and keep {folder} where the server sees it under the same path (the option folder)"


def _asked(endpoint: Endpoint, path: str, body: Mapping[str, Any]) -> NoAnswer | None:
    """What the server has against it; None if it did it.

    Raises:
        InputError: the server was never there.
    """
    try:
        answer = endpoint.post_all(path, [body])[0]
    except InputError as error:
        if " 404, " not in str(error):
            raise
        return NoAnswer("refused", "status 404, it offers no such call")
    return answer if isinstance(answer, NoAnswer) else None
