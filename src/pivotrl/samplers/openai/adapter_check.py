"""Whether a server takes a LoRA adapter while it runs, answers with it, and lets it go (vLLM and its like)."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

from pivotrl.protocols import InputError
from pivotrl.protocols.endpoint import Endpoint, NoAnswer
from pivotrl.samplers.openai.answers import Choice
from pivotrl.samplers.openai.models import model_rows
from pivotrl.samplers.openai.probing import Finding, Probing, asked, found, one

_LOADED, _USED, _RELEASED = "adapter loads", "adapter acts", "adapter is released"
_ASK = "Describe a harbour at dawn in two sentences."
_ALLOW = "vLLM: --enable-lora, and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 in its environment"


def check_adapter(probing: Probing, folder: str) -> Iterator[Finding]:
    """Load it under a fresh name, compare a greedy answer with the base model's, and unload it.

    Args:
        folder: the adapter, as a path on the server's machine.
    """
    name = f"pivotrl-check-{secrets.token_hex(4)}"
    endpoint = probing.sampler.endpoint
    loaded = _post(endpoint, "load_lora_adapter", {"lora_name": name, "lora_path": folder})
    if isinstance(loaded, NoAnswer | InputError):
        yield Finding(_LOADED, "fault", f"it does not load {folder} ({loaded}); {_ALLOW}")
        return
    try:
        yield from _used(probing, name)
    finally:  # an adapter that nobody asked for must not stay
        _post(endpoint, "unload_lora_adapter", {"lora_name": name})
    gone = _greedy(probing, name) is None
    told = "after unloading it still answers under that name: which weights does it use?"
    yield found(_RELEASED, gone, "after unloading its name is refused", told)


def _used(probing: Probing, name: str) -> Iterator[Finding]:
    rows = model_rows(probing.sampler.endpoint.get("models"))
    listed = rows is None or name in rows
    yield found(_LOADED, listed, "it loads the adapter", "it says that it loads it, but does not list it")
    base, with_it = _greedy(probing, probing.sampler.model), _greedy(probing, name)
    if with_it is None or base is None:
        yield Finding(_USED, "fault", "a request to the adapter has no usable answer")
    else:
        told = "its greedy answer is the base model's to the last log-probability: is the adapter used at all?"
        yield found(_USED, _differ(base, with_it), "its answer differs from the base model's", told)


def _post(endpoint: Endpoint, path: str, body: dict[str, Any]) -> str | NoAnswer | InputError:
    """A server that knows no adapters does not know the path, which elsewhere ends everything."""
    try:
        return endpoint.post_all(path, [body])[0]
    except InputError as error:
        return error


def _greedy(probing: Probing, model: str) -> Choice | None:
    body: dict[str, Any] = {**probing.body(asked(_ASK), temperature=0.0), "model": model}
    try:
        return one(probing.ask([body])[0])
    except InputError:  # it does not know the model
        return None


def _differ(base: Choice, other: Choice) -> bool:
    """Rounding alone makes log-probabilities differ by less than this."""
    if (base.text, base.token_ids_T) != (other.text, other.token_ids_T):
        return True
    pairs = zip(base.logprobs_T or (), other.logprobs_T or (), strict=False)
    return any(abs(mine - its) > 1e-3 for mine, its in pairs)
