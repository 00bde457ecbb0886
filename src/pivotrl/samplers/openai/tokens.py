"""Samples as token ids: how they are asked for, whether they fit their prompt and their text, and what they say."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

from pivotrl.protocols import InputError, Turn
from pivotrl.records import Action, Completion, Sampling
from pivotrl.rendering import Renderer
from pivotrl.samplers.openai.answers import Choice

_NO_CHARACTER = "\ufffd"


def plain_request(model: str, sampling: Sampling) -> dict[str, Any]:
    """The fields that every server knows."""
    return {
        "model": model,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "stream": False,
        **({"top_k": sampling.top_k} if sampling.top_k else {}),
    }


def token_request(model: str, prompt: Sequence[int], sampling: Sampling, stop_ids: Collection[int]) -> dict[str, Any]:
    """Token ids in, token ids and log-probabilities out; without ``n`` and ``seed``."""
    return plain_request(model, sampling) | {
        "prompt": list(prompt),
        "top_k": sampling.top_k or -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "logprobs": 1,
        "return_token_ids": True,
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
        "stop_token_ids": sorted(stop_ids),
    }


def is_plain(sampling: Sampling) -> bool:
    """Whether the samples come from the model's own distribution."""
    return sampling.temperature == 1.0 and sampling.top_p == 1.0 and sampling.top_k is None


def fault_of_tokens(
    choice: Choice, renderer: Renderer, prompt: tuple[int, ...], turn_id: str, max_tokens: int
) -> str | None:
    """Why a choice is no sample; None if it is one.

    Raises:
        InputError: the server read another prompt than the one it was sent.
    """
    if choice.prompt_ids is not None and (difference := first_difference(renderer, prompt, choice.prompt_ids)):
        raise InputError(
            f"{turn_id}: the server reads another prompt than it was sent: {difference}. Give the tokenizer of the "
            "model that it serves, and start it without a template or BOS token of its own for completions"
        )
    if choice.token_ids_T is None:
        is_empty = not choice.text and choice.finish_reason != "length"
        return "server_answer_empty" if is_empty and (choice.num_tokens or 2) > 1 else None
    if not choice.token_ids_T or len(choice.token_ids_T) > max_tokens:
        return "server_tokens_inconsistent"
    return None if is_text_of(choice, renderer) else "server_tokens_inconsistent"


def first_difference(renderer: Renderer, ours: tuple[int, ...], theirs: tuple[int, ...]) -> str | None:
    """The first token that differs, in words; None if none does."""
    if ours == theirs:
        return None
    place = next((i for i, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), None)
    if place is None:
        place = min(len(ours), len(theirs))
    sides = [
        f"{ids[place]} {_word(renderer, ids[place])!r}" if place < len(ids) else "the end" for ids in (ours, theirs)
    ]
    return f"token {place} is {sides[1]}, not {sides[0]}"


def is_text_of(choice: Choice, renderer: Renderer) -> bool:
    """Whether the text is what the ids say, with or without control tokens."""
    ids = list(choice.token_ids_T or ())
    texts = [
        renderer.tokenizer.decode(ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False)
        for skip in (False, True)
    ]
    said = _plain(choice.text, renderer)
    return not choice.text or any(said == _plain(text, renderer) for text in texts)


def _word(renderer: Renderer, token_id: int) -> str:
    word: str = renderer.tokenizer.decode([token_id], skip_special_tokens=False)
    return word


def _plain(text: str, renderer: Renderer) -> str:
    """Without the end token, blanks at the ends, and a character that was cut."""
    return _without_end(text, renderer).replace(_NO_CHARACTER, "").strip()


def _without_end(text: str, renderer: Renderer) -> str:
    return next(
        (text.removesuffix(end) for end in (_word(renderer, stop) for stop in renderer.stop_ids) if text.endswith(end)),
        text,
    )


def completion_of_tokens(
    choice: Choice, renderer: Renderer, turn: Turn, max_tokens: int, knows_logprobs: bool = True
) -> Completion:
    """The sample with its action. Log-probabilities that do not match the ids are unknown, and so are those of another
    distribution than the one sampled from."""
    ids = choice.token_ids_T or ()
    if ids:
        text = renderer.decode(ids)
        stopped = ids[-1] in renderer.stop_ids or (choice.finish_reason != "length" and len(ids) < max_tokens)
    else:
        text, stopped = _without_end(choice.text, renderer), choice.finish_reason != "length"
    logprobs = (choice.logprobs_T or ()) if knows_logprobs else ()
    action, error = renderer.parse(text, turn) if stopped else (Action(), "truncated")
    return Completion(
        action=action,
        text=text,
        token_ids_T=ids,
        logprobs_T=logprobs if len(logprobs) == len(ids) else (math.nan,) * len(ids),
        finish_reason="stop" if stopped else "length",
        parse_error=error,
    )
