"""The options of a selection."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from pivotrl.options import AtLeast0, AtLeast1, Positive, Share, check, options_dict, refuse

Rule = Literal["mixed", "mean_only", "likely_mixed", "imitate", "random", "all"]
Order = Literal["random", "signal", "signal_per_token"]

_ALWAYS_NOTED = ("rule", "max_mean", "max_pivots", "selection_seed")


@dataclass(frozen=True)
class SelectionOptions:
    """Which profiled turns become pivots."""

    rule: Rule = "mixed"
    """mixed: variance > 0 and mean < max_mean (the paper). mean_only: mean <= max_mean, all-fail turns kept (the
    published run). likely_mixed: the next group is mixed with probability min_mixed or more, and the posterior mean is
    below max_mean. imitate: turns to imitate, because the policy hardly ever passes there. random: as many turns as
    `mixed` would keep, drawn at random. all: every scored turn."""
    max_mean: Share = 0.6
    """lambda: turns that the reference policy solves more often than this are too easy."""
    min_mixed: Share = 0.5
    """Least probability that the next group of a turn has both passes and failures, for the rule likely_mixed and for
    the routes; it is computed from all samples of the profile (docs/selection.md)."""
    selection_group_size: Annotated[int, Field(ge=2, le=100_000)] = 16
    """G: the samples of such a group, and of a visit to a pivot in budgets. Give the group size of the training."""
    order: Order = "random"
    """Which turns stay under a limit: drawn at random, those with the greatest expected signal (Theorem 3.2), or with
    the greatest signal for each token that a visit costs."""
    max_pivots: AtLeast1 | None = None
    """Keep at most this many."""
    max_per_trajectory: AtLeast1 | None = None
    """Keep at most this many turns of one trajectory."""
    max_per_tool: AtLeast1 | None = None
    """Keep at most this many turns whose demonstrated action calls the same tool."""
    max_messages: AtLeast0 | None = None
    """Keep at most this many turns whose demonstrated action is a message: it calls no tool."""
    budget_rollout_turns: AtLeast1 | None = None
    """Keep as many turns as one visit to each can be sampled for with this many actions, G a turn."""
    budget_tokens: AtLeast1 | None = None
    """The same, for this many sampled tokens."""
    budget_seconds: Positive | None = None
    """The same, for this many seconds of sampling, at the seconds per token of this run's profile."""
    selection_seed: int = 0
    """Seed of the pivots that are drawn."""

    def __post_init__(self) -> None:
        check(self)
        if self.rule == "random" and self.order != "random":
            refuse("order", self.order, "does not fit the rule random, which draws; use --rule mixed or likely_mixed")

    @property
    def needs_posteriors(self) -> bool:
        return self.rule in ("likely_mixed", "imitate") or self.order != "random"

    @property
    def needs_tools(self) -> bool:
        return self.max_per_tool is not None or self.max_messages is not None


def settings_of(options: SelectionOptions) -> dict[str, Any]:
    """The options for a manifest. Those that older versions did not have are left out at their default, so that a
    selection of theirs is the same as one of today."""
    defaults = {field.name: field.default for field in dataclasses.fields(options)}
    noted = options_dict(options).items()
    return {name: value for name, value in noted if name in _ALWAYS_NOTED or value != defaults[name]}
