"""Instructions that a program can check, as in IFEval (arXiv 2311.07911): no commas, at most 40 words, all in capitals.

The checkers are those of the package ``if-verifiable``. The instructions stand in the trajectory's metadata, each with
its id and arguments: ``{"instructions": [{"id": "punctuation:no_comma"}]}``. Questions given with ``--answers`` have
them in the field of the same name.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any, Literal

from pivotrl.plugins.extras import load_package
from pivotrl.protocols import InputError, Turn
from pivotrl.records import Action, Verdict

_TEXT = "A first line.\n\nA second one."


def verify(turn: Turn, action: Action, *, mode: Literal["strict", "loose"] = "strict") -> Verdict:
    """Pass when the message follows all instructions of its question.

    Args:
        mode: ``strict`` takes the message as it is. ``loose`` also passes it without its first or last line and
            without asterisks, as a model may wrap its answer.

    Reasons: followed; not_followed, empty_action, unexpected_tool_call; and without a verdict no_instructions. The
    details tell the result of each instruction, and under ``scores`` whether all were followed ``loosely`` and which
    ``share`` of them strictly.

    Raises:
        InputError: an instruction is unknown or lacks an argument. Never for an action.
    """
    given = turn.trajectory.metadata.get("instructions")
    if not given:
        return Verdict.unknown("no_instructions")
    ids, arguments = _checked(json.dumps(given, sort_keys=True))
    if action.is_empty:
        return Verdict.failed("empty_action")
    if action.tool_calls:
        return Verdict.failed("unexpected_tool_call")
    asked = next((message.content or "" for message in reversed(turn.context) if message.role == "user"), "")
    check, known = _checkers()
    results, scores = check(action.content or "", ids, arguments, asked, known)
    followed = bool(scores.binary_strict if mode == "strict" else scores.binary_loose)
    details: dict[str, Any] = {
        "followed": [result.instruction_id for result in results if result.strict_pass],
        "scores": {"loose": scores.binary_loose, "share": scores.partial_strict},
    }
    return Verdict.passed("followed", **details) if followed else Verdict.failed("not_followed", **details)


@functools.cache
def _checkers() -> tuple[Callable[..., Any], Mapping[str, Any]]:
    """The package's check of a message, and its checkers by instruction."""
    name = "the verifier 'instructions'"
    common, ifeval = (load_package(f"if_verifiable.{part}", name) for part in ("common", "ifeval"))
    load_package("langdetect", name).DetectorFactory.seed = 0  # it guesses at random otherwise
    return common.evaluate_instructions, ifeval.INSTRUCTION_DICT


@functools.lru_cache(maxsize=4096)
def _checked(given: str) -> tuple[list[str], list[dict[str, Any]]]:
    """Ids and arguments, after each checker has run once."""
    ids, arguments, known = [], [], _checkers()[1]
    for instruction in json.loads(given):
        name = instruction.get("id")
        its = {key: value for key, value in instruction.items() if key != "id"}
        if name not in known:
            raise InputError(f"there is no instruction {name!r}; there are {', '.join(sorted(known))}")
        checker = known[name](name)
        # a checker chooses a missing argument at random, and would then check something that was not asked
        wanted = set(checker.get_instruction_args_keys())
        if wanted != set(its):
            told = ", ".join(sorted(wanted)) or "none"
            raise InputError(f"the arguments of {name!r} are {told}, not {', '.join(sorted(its)) or 'none'}")
        try:
            checker.build_description(**its)
            checker.check_following(_TEXT)
        except LookupError as error:
            raise InputError(
                f"{name!r} needs data of NLTK that are not here; load them with `python -m nltk.downloader punkt "
                f"punkt_tab`, or leave the instruction out"
            ) from error
        except Exception as error:
            raise InputError(f"{name!r} cannot be checked with {its}: {type(error).__name__}: {error}") from error
        ids.append(name)
        arguments.append(its)
    return ids, arguments
