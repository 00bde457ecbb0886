"""Marks by which a log excludes a turn from training, such as ``weight: 0``, ``loss: false``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

LEARN = frozenset(
    {
        *("weight", "loss_weight", "loss", "loss_mask", "loss_scale", "train", "trainable", "training", "train_on"),
        *("train_on_turn", "is_trainable", "should_train", "learn", "learnable", "include_in_loss", "compute_loss"),
        *("calculate_loss", "calc_loss", "use_loss", "in_loss", "supervise", "supervised", "is_target"),
        *("train_on_this_turn", "assistant_mask", "trainable_mask", "train_mask", "label_mask"),
    }
)
"""Keys that exclude by 0 or false."""
SKIP = frozenset(
    {
        *("masked", "is_masked", "mask_loss", "no_loss", "ignore", "ignore_loss", "ignored", "skip_loss", "no_train"),
        *("exclude", "excluded", "exclude_from_loss", "context_only", "is_context", "do_not_train", "skip_training"),
    }
)
"""Keys that exclude by 1 or true."""
EITHER = "mask"
"""Says no by false where other messages have false too (1 means: learn), else by true."""
HOLDERS = ("metadata", "extra", "info", "meta", "additional_kwargs", "extra_info")
MARKS = LEARN | SKIP | {EITHER} | frozenset(HOLDERS)
LISTS = LEARN | SKIP | {EITHER, "weights", "loss_masks", "loss_weights", "masks"}
_OFF = {"false", "no", "off", "0", "0.0"}


def keys_of(items: Sequence[Any]) -> set[Any]:
    """The keys of all of them together."""
    return set().union(*[item for item in items if type(item) is dict])


def marked_turns(
    items: Sequence[Any], row: Mapping[str, Any] | None = None, keys: set[Any] | None = None
) -> dict[int, str]:
    """Index of each item that is marked as context -> ``context_only``.

    Args:
        row: what the items stand in; it may hold a list of marks, one for each item or for each assistant turn.
        keys: those of all items, where they are known.
    """
    lists = () if row is None else row.keys() & LISTS
    if not lists and MARKS.isdisjoint(keys_of(items) if keys is None else keys):
        return {}
    found = [i for i, item in enumerate(items) if isinstance(item, dict) and not MARKS.isdisjoint(item)]
    marked = {i for i in found if _is_off(items[i])} | set(_by_mask(items, found))
    for key in lists:
        marked |= _of_list((row or {})[key], items, key in SKIP)
    return dict.fromkeys(sorted(marked), "context_only")


def is_context(item: Mapping[str, Any]) -> bool:
    """Whether a single message, block or item is marked as context."""
    return not MARKS.isdisjoint(item) and _is_off(item)


def _is_off(item: Mapping[str, Any]) -> bool:
    for holder in (item, *(item[key] for key in HOLDERS if isinstance(item.get(key), dict))):
        if any(key in holder and _says_no(holder[key]) for key in LEARN):
            return True
        if any(key in holder and _says_yes(holder[key]) for key in SKIP):
            return True
    return False


def _says_no(value: Any) -> bool:
    if isinstance(value, bool | int | float):
        return value <= 0
    return isinstance(value, str) and value.strip().lower() in _OFF


def _says_yes(value: Any) -> bool:
    return isinstance(value, bool | int | float | str) and not _says_no(value) and value != ""


def _by_mask(items: Sequence[Any], found: Sequence[int]) -> list[int]:
    """Turns that ``mask`` excludes. Its sense is read off the messages that nobody learns: those of the user."""
    masks = {i: items[i][EITHER] for i in found if isinstance(items[i].get(EITHER), bool | int)}
    others = [bool(mask) for i, mask in masks.items() if not _is_assistant(items[i])]
    excludes = all(others) if others else any(mask is True for mask in masks.values())
    return [i for i, mask in masks.items() if _is_assistant(items[i]) and bool(mask) == excludes]


def _of_list(marks: Any, items: Sequence[Any], is_skip: bool) -> set[int]:
    turns = [i for i, item in enumerate(items) if isinstance(item, dict) and _is_assistant(item)]
    if not isinstance(marks, list) or any(isinstance(mark, list | dict) for mark in marks):
        return set()
    places = range(len(items)) if len(marks) == len(items) else turns if len(marks) == len(turns) else ()
    says = _says_yes if is_skip else _says_no
    return {place for place, mark in zip(places, marks, strict=bool(places)) if says(mark)} if places else set()


def _is_assistant(item: Mapping[str, Any]) -> bool:
    name = item.get("role") or item.get("from") or item.get("type")
    return isinstance(name, str) and name.lower() in (
        "assistant",
        "gpt",
        "ai",
        "model",
        "bot",
        "function_call",
        "tool_call",
    )
