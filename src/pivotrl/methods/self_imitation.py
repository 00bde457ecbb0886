"""Self-imitation: learn from the accepted samples alone, those of the current policy or of the reference policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from pivotrl.options import refuse
from pivotrl.protocols import ObjectiveName, TrainingGroup, Turn
from pivotrl.records import SampleGroup
from pivotrl.rollouts import sample_groups
from pivotrl.runs.step_metrics import sample_metrics
from pivotrl.training import Lesson, Step, TrainingOptions
from pivotrl.training_options import require_sampling


@dataclass(frozen=True, kw_only=True)
class Method:
    """Raises the likelihood of samples that the verifier accepts; failed samples push nothing down.

    Args:
        of: whose samples. ``policy``: the current policy's, drawn anew at each step. That is REINFORCE with reward 1
            or 0 and no baseline; failed samples count in the denominators. ``reference``: those of the policy before
            training. They are drawn when a turn first comes and used again whenever it comes back; the accepted ones
            are imitated as if they were demonstrations.
    """

    of: Literal["policy", "reference"] = "policy"

    verifies: ClassVar[bool] = True
    plays: ClassVar[bool] = False

    @property
    def title(self) -> str:
        return "self-imitation" if self.of == "policy" else "self-imitation of the reference policy"

    @property
    def acts_at_batch(self) -> bool:
        """Samples of the reference policy are drawn once for all steps."""
        return self.of == "policy"

    @property
    def objective(self) -> ObjectiveName:
        return "policy_gradient" if self.of == "policy" else "likelihood"

    def check(self, options: TrainingOptions) -> None:
        require_sampling(options)
        if self.of == "policy":
            return
        has_no_effect = "does nothing with --method \"self_imitation(of='reference')\"; leave it out"
        for name in ("kl_coefficient", "importance_cap"):
            if value := getattr(options, name):
                refuse(name, value, has_no_effect)
        if options.average_over == "signal":
            refuse("average_over", "signal", has_no_effect)

    def lesson(self, step: Step) -> Lesson:
        """The accepted samples; nothing to learn where there are none and there is no KL term."""
        samples = step.sample() if self.of == "policy" else _reference_samples(step)
        judged = [_judged(turn, group) for turn, group in zip(step.turns, samples, strict=True)]
        groups = [group for group in judged if group.completions_G]
        accepted = [group for group in groups if any(group.advantages_G)]
        metrics = {
            **sample_metrics(samples),
            "groups/with_verdict": float(len(groups)),
            "groups/with_signal": float(len(accepted)),
        }
        if self.of == "reference":
            metrics = _without_reused(metrics, samples, step.number)
            return Lesson([_accepted(group) for group in accepted], bool(accepted), metrics)
        if step.options.average_over == "signal":
            groups = accepted
        return Lesson(groups, bool(accepted) or (bool(groups) and step.options.kl_coefficient > 0), metrics)


def _reference_samples(step: Step) -> list[SampleGroup]:
    """G verified samples of the reference policy at each turn, drawn once in the training. Keys: step, slash, turn."""
    keys = {key.partition("/")[2]: key for key in step.groups_file.keys()}  # noqa: SIM118 - not a dict
    step.stored(
        [turn for turn in step.turns if turn.id not in keys],
        lambda turns: sample_groups(
            turns, step.policy.reference, step.verifier, step.options.group_size, step.sampling("reference")
        ),
    )
    return [step.groups_file.get(keys.get(turn.id, f"{step.number}/{turn.id}")) for turn in step.turns]


def _without_reused(metrics: dict[str, float], samples: Sequence[SampleGroup], number: int) -> dict[str, float]:
    """The metrics, with the samples that this step drew as its cost: a later use of a sample costs nothing."""
    drawn = sample_metrics([group for group in samples if group.step == number])
    areas = ("samples/", "prompts/")
    kept = {name: value for name, value in metrics.items() if not name.startswith(areas)}
    return kept | {name: value for name, value in drawn.items() if name.startswith(areas)}


def _judged(turn: Turn, group: SampleGroup) -> TrainingGroup:
    """The samples with a verdict, each with weight 1 if it passed and 0 if it failed."""
    judged = [
        (completion, float(verdict.outcome == "pass"))
        for completion, verdict in zip(group.completions_G, group.verdicts_G, strict=True)
        if verdict.outcome != "no_verdict"
    ]
    return TrainingGroup(turn, [c for c, _ in judged], [weight for _, weight in judged], group.prompt_sha256)


def _accepted(group: TrainingGroup) -> TrainingGroup:
    kept = [c for c, weight in zip(group.completions_G, group.advantages_G, strict=True) if weight]
    return TrainingGroup(group.turn, kept, [1.0] * len(kept), group.prompt_sha256)
