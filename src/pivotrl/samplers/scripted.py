"""Answers from a script, for tests and demonstrations. For answers of a model, see `pivotrl profile --samples`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pivotrl.protocols import InputError, Turn
from pivotrl.records import Completion, SampleGroup, Sampling
from pivotrl.rendering import action_text, parse_completion
from pivotrl.storage.record_files import sha256_of_json

_SHAPE = 'write {"<turn id>": ["<text>", ...], ...}'


class Sampler:
    """Sample ``g`` at a turn is text ``g`` of its list, starting over at the end. Seed, temperature and
    ``max_tokens`` have no effect. Token ids are the UTF-8 bytes of the text; log-probabilities are 0.

    Args:
        script: turn id -> texts, or a JSON file that holds it.
        otherwise: the text at turns that the script leaves out; ``expected`` is the turn's own expected action.

    Raises:
        InputError: the script has another shape; the message names the place.
    """

    def __init__(self, *, script: Mapping[str, Sequence[str]] | str | Path, otherwise: str = "expected") -> None:
        self._texts = _read(Path(script)) if isinstance(script, str | Path) else _checked(script, "the script")
        self._otherwise = otherwise

    @property
    def identity(self) -> dict[str, Any]:
        return {"sampler": "scripted", "script_sha256": sha256_of_json(self._texts), "otherwise": self._otherwise}

    def fits(self, turn: Turn, max_tokens: int) -> bool:
        return True

    def sample(
        self, turns: Sequence[Turn], num_samples: int, sampling: Sampling, first: int = 0
    ) -> Iterator[SampleGroup]:
        """See :class:`pivotrl.protocols.Sampler`.

        Raises:
            InputError: the script leaves out a turn that is still to be played and so has no expected action.
        """
        for turn in turns:
            texts = self._texts.get(turn.id) or [self._default(turn)]
            numbers = range(first, first + num_samples)
            yield SampleGroup(
                turn_id=turn.id,
                completions_G=tuple(_completion(texts[number % len(texts)]) for number in numbers),
                first=first,
            )

    def _default(self, turn: Turn) -> str:
        if self._otherwise != "expected":
            return self._otherwise
        if turn.index >= len(turn.trajectory.messages):
            raise InputError(
                f"the script has no answer at {turn.id}, and a turn still to be played has no expected action; "
                "add the turn to the script or give otherwise='some text'"
            )
        return action_text(turn.expected_action)


def _completion(text: str) -> Completion:
    action, error = parse_completion(text)
    token_ids = tuple(text.encode(errors="surrogatepass"))  # half a surrogate pair makes a failed sample
    return Completion(
        action=action,
        text=text,
        token_ids_T=token_ids,
        logprobs_T=(0.0,) * len(token_ids),
        finish_reason="stop",
        parse_error=error,
    )


def _read(path: Path) -> dict[str, list[str]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the script {path}: {error.strerror}; {_SHAPE}") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno} is not JSON: {error.msg} (column {error.colno}); {_SHAPE}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON in UTF-8: {error}; {_SHAPE}") from error
    return _checked(content, str(path))


def _checked(content: Any, place: str) -> dict[str, list[str]]:
    if not isinstance(content, Mapping):
        raise InputError(f"{place} is not an object of turn ids; {_SHAPE}")
    for turn_id, texts in content.items():
        if not isinstance(turn_id, str):
            raise InputError(f"{place}: {turn_id!r} is not a turn id; {_SHAPE}")
        if isinstance(texts, str) or not isinstance(texts, Sequence) or not texts:
            raise InputError(f"{place}: {turn_id!r} has no list of texts; {_SHAPE}")
        for number, text in enumerate(texts):
            if not isinstance(text, str):
                raise InputError(f"{place}: answer {number} at {turn_id!r} is not a string; {_SHAPE}")
    return {turn_id: list(texts) for turn_id, texts in content.items()}
