"""sample_groups: sample at turns, verify, yield groups. Profiling, training and evaluation all stand on it."""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pivotrl.plugins.describing import describe
from pivotrl.plugins.faults import told_of
from pivotrl.plugins.shapes import sampled
from pivotrl.protocols import InputError, Notice, NotRenderable, Sampler, Turn, Verifier
from pivotrl.records import Action, Completion, LostTry, SampleGroup, Sampling, SkippedTurn, TurnResult, Verdict
from pivotrl.storage.record_files import RecordFile

_MAX_DETAILS_BYTES = 32 << 10
_NOTE_BYTES = 200
"""Room for the note on what was left out."""
_MAX_REASON = 200


def sample_groups(
    turns: Sequence[Turn], sampler: Sampler, verifier: Verifier, num_samples: int, sampling: Sampling, first: int = 0
) -> Iterator[SampleGroup]:
    """One group per turn, in order: ``num_samples`` completions with a verdict each.

    All turns are sampled first; then all completions are judged, as many side by side as the verifier allows.

    Args:
        first: number of the first sample; more samples of the same turn begin where the last ones ended.

    Raises:
        InputError: the sampler returns something else, or the verifier cannot work as it was set up.
    """
    groups = [
        group.model_copy(update={"completions_G": tuple(map(storable, group.completions_G))})
        for group in sampled(sampler, turns, num_samples, sampling, first)
    ]
    yield from judged_groups(turns, groups, verifier)


def judged_groups(turns: Sequence[Turn], groups: Sequence[SampleGroup], verifier: Verifier) -> Iterator[SampleGroup]:
    """The groups with a verdict for each completion, in place of any that they have.

    Args:
        groups: one per turn, in the order of the turns.

    Raises:
        InputError: the verifier cannot work as it was set up.
    """
    cases = [
        (turn, completion) for turn, group in zip(turns, groups, strict=True) for completion in group.completions_G
    ]
    verdicts = iter(judge_all(cases, verifier))
    for group in groups:
        yield group.model_copy(update={"verdicts_G": tuple(itertools.islice(verdicts, len(group.completions_G)))})


def storable(completion: Completion) -> Completion:
    """The completion; one without an action and with a parse error, when it holds half of a surrogate pair, which is no
    character and which no record can hold."""
    action = completion.action
    parts = [completion.text, action.content or ""]
    parts += [text for call in action.tool_calls for text in (call.name, call.arguments, call.id or "")]
    try:
        "".join(parts).encode()
    except UnicodeEncodeError:
        text = completion.text.encode(errors="replace").decode()
        return completion.model_copy(
            update={"text": text, "action": Action(), "parse_error": "half_of_a_surrogate_pair"}
        )
    return completion


def joined(groups: Iterable[SampleGroup]) -> list[SampleGroup]:
    """One group a turn: samples that were drawn later join those drawn before.

    Raises:
        ValueError: samples of a turn are missing in between.
    """
    by_turn: dict[str, SampleGroup] = {}
    for group in groups:
        known = by_turn.get(group.turn_id)
        by_turn[group.turn_id] = known.with_more(group) if known else group
    return list(by_turn.values())


def prompt_tokens(groups: Sequence[SampleGroup]) -> tuple[int, int]:
    """(tokens that the prompts of all samples have, of which so many were computed)."""
    unshared = sum(group.num_prompt_tokens * len(group.completions_G) for group in groups)
    return unshared, sum(group.num_prefilled_tokens for group in groups)


def turns_bought(verdicts: Iterable[Verdict]) -> int:
    """Actions that a verifier had sampled to see how episodes go on; they are bought like any other."""
    said = (verdict.details.get("num_rollout_turns") for verdict in verdicts)
    return sum(number for number in said if type(number) is int)


def combined_details(said: Sequence[Verdict], taken: Verdict | None) -> dict[str, Any]:
    """Details of a verdict made of others: what each said, the turns that all of them bought, and the rewards of the
    continuations behind the one taken."""
    details: dict[str, Any] = {"parts": [verdict.model_dump() for verdict in said]}
    if bought := turns_bought(said):
        details["num_rollout_turns"] = bought
    if taken is not None and "rewards" in taken.details:
        details["rewards"] = taken.details["rewards"]
    return details


def rollout_turns(groups: Iterable[SampleGroup]) -> int:
    """Actions that were bought for these groups: samples, and those of continuations. What a pilot paid for is left
    out."""
    return sum(
        len(group.completions_G) - group.num_taken + turns_bought(group.verdicts_G[group.num_taken :])
        for group in groups
    )


def store_lost(path: Path, groups: Iterable[SampleGroup], temperature: float | None = None) -> None:
    """Note what a server took for the groups without samples, which are not stored themselves.

    Args:
        path: of the file that holds the groups with samples; theirs is beside it.
    """
    lost = [group for group in groups if group.fault and (group.cost is not None or group.num_paid_tokens)]
    if not lost:
        return
    file = RecordFile(lost_path(path), LostTry)
    for group in lost:
        tries = (
            LostTry(
                turn_id=group.turn_id,
                first=group.first,
                temperature=temperature,
                number=number,
                reason=group.fault or "",
                cost=group.cost,
                num_tokens=group.num_paid_tokens or 0,
            )
            for number in itertools.count()
        )
        file.append([next(one for one in tries if one.key not in file)])


def lost_path(path: Path) -> Path:
    """``profiles.lost.jsonl`` of ``profiles.jsonl``."""
    return path.with_suffix(".lost.jsonl")


def cost_of_groups(groups: Iterable[SampleGroup]) -> float | None:
    """Money of all; None if that of none is known."""
    known = [group.cost for group in groups if group.cost is not None]
    return sum(known) if known else None


def tokens_of_groups(groups: Iterable[SampleGroup]) -> int:
    """Sampled tokens of all; those of groups whose tokens are unknown count as 0."""
    return sum(group.num_sampled_tokens or 0 for group in groups)


def continuation_turns(groups: Sequence[SampleGroup]) -> int:
    """:func:`turns_bought` over all samples of the groups."""
    return turns_bought(verdict for group in groups for verdict in group.verdicts_G)


def judge_all(cases: Sequence[tuple[Turn, Completion]], verifier: Verifier) -> list[Verdict]:
    """:func:`judge` for each (turn, completion), in order. A verifier with a method ``judge_all(cases)``, for (turn,
    action), judges them together, as :class:`~pivotrl.judging.guarded.Verification` does.

    Raises:
        InputError: as :func:`judge_action`.
    """
    together = getattr(verifier, "judge_all", None)
    if together is None:
        return [judge(turn, completion, verifier) for turn, completion in cases]
    known = [_verdict_without_verifier(completion) for _, completion in cases]
    open_cases = zip(cases, known, strict=True)
    verdicts = iter(together([(turn, completion.action) for (turn, completion), verdict in open_cases if not verdict]))
    return [verdict or next(verdicts) for verdict in known]


def judge(turn: Turn, completion: Completion, verifier: Verifier) -> Verdict:
    """The verdict on one completion. Text that is no well-formed action fails; a sample that nobody drew has none."""
    return _verdict_without_verifier(completion) or judge_action(turn, completion.action, verifier)


def _verdict_without_verifier(completion: Completion) -> Verdict | None:
    if completion.fault is not None:
        return Verdict.unknown(completion.fault)
    return None if completion.parse_error is None else Verdict.failed(completion.parse_error)


def judge_action(turn: Turn, action: Action, verifier: Verifier) -> Verdict:
    """The verdict on one action, with at most 32 KiB of details. A verifier that breaks gives no verdict with the error
    as its reason, never a reward of 0.

    Raises:
        InputError: the verifier cannot work as it was set up; every further verdict would be lost as well.
    """
    try:
        verdict = verifier(turn, action)
        if not isinstance(verdict, Verdict):
            raise TypeError(f"the verifier returned {verdict!r:.200} instead of a Verdict")
        if verdict.details:
            verdict.model_dump_json()  # raises when no record can hold them
        return _bounded(verdict)
    except InputError:
        raise
    except Exception as error:
        return Verdict.unknown("verifier_error", error=f"{type(error).__name__}: {error}"[:500])


def _bounded(verdict: Verdict) -> Verdict:
    """The verdict with no more details than are worth keeping with every sample; the largest go first."""
    if not verdict.details and len(verdict.reason) <= _MAX_REASON:
        return verdict
    sizes = {key: len(json.dumps({key: value}, default=str)) for key, value in verdict.details.items()}
    total = left_out = sum(sizes.values())
    if total <= _MAX_DETAILS_BYTES:
        return verdict.model_copy(update={"reason": verdict.reason[:_MAX_REASON]})
    kept, room = dict[str, Any](), _MAX_DETAILS_BYTES - _NOTE_BYTES
    for key in sorted(sizes, key=sizes.__getitem__):
        if (room := room - sizes[key]) < 0:
            break
        kept[key] = verdict.details[key]
        left_out -= sizes[key]
    kept["left_out"] = f"{left_out} bytes; a verdict keeps {_MAX_DETAILS_BYTES >> 10} KiB of details"
    return verdict.model_copy(update={"details": kept, "reason": verdict.reason[:_MAX_REASON]})


def misfit(sampler: Sampler, turn: Turn, max_tokens: int) -> SkippedTurn | None:
    """Why the sampler cannot act at the turn: ``context_too_long`` or ``not_renderable``; None when it can."""
    acting = getattr(sampler, "loaded", sampler)
    try:
        with told_of(acting, f"the sampler {describe(acting)} fails in fits", NotRenderable):
            does_fit = sampler.fits(turn, max_tokens)
        return None if does_fit else SkippedTurn(turn_id=turn.id, reason="context_too_long")
    except NotRenderable as error:
        return SkippedTurn(turn_id=turn.id, reason="not_renderable", detail=str(error))


@dataclass(frozen=True)
class SampleFaults:
    """What befell samples before they could teach or measure anything; numbers of samples.

    Said where it happens, and again in the report, when it befell most of them: the cause lies in an option or a
    verifier then, not in the policy.
    """

    total: int = 0
    cut_off: int = 0
    malformed: int = 0
    without_verdict: int = 0

    @classmethod
    def of(cls, groups: Iterable[SampleGroup]) -> SampleFaults:
        listed = list(groups)
        return cls(
            total=sum(len(group.completions_G) for group in listed),
            cut_off=sum(group.num_cut_off for group in listed),
            malformed=sum(group.num_malformed for group in listed),
            without_verdict=sum(len(group.verdicts_G) - len(group.rewards) for group in listed),
        )

    @classmethod
    def of_results(cls, results: Iterable[TurnResult]) -> SampleFaults:
        """Of held-out turns, where a turn without a verdict stands for all of its samples."""
        listed = list(results)
        return cls(
            total=sum(result.num_samples for result in listed),
            cut_off=sum(result.num_cut_off for result in listed),
            without_verdict=sum(result.num_samples for result in listed if result.reward is None),
        )

    def complaint(self, limit: str) -> str | None:
        """What befell most samples, with its remedy; None when nothing did.

        Args:
            limit: the flag that bounds the tokens of a sample, such as ``--max-tokens``.
        """
        for number, words in (
            (self.cut_off, f"were cut off before they ended, and so failed: raise {limit}"),
            (self.malformed, "are no well-formed action, and so failed: look at them with `pivotrl show`"),
            (self.without_verdict, "got no verdict: look at the reasons with `pivotrl show`"),
        ):
            if 2 * number > self.total > 0:
                return f"{number:,} of {self.total:,} samples {words}"
        return None

    def warn(self, limit: str) -> bool:
        """Tell :meth:`complaint` as a notice; whether there was one."""
        told = self.complaint(limit)
        if told is not None:
            warnings.warn(told, Notice, stacklevel=2)
        return told is not None
