"""Seconds and money of samples: rates measured where the pilot ran, or prices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pivotrl.options import NotNegative, check
from pivotrl.records import BatchTime
from pivotrl.report.planning.projection import Range

UPDATE_FORWARDS = 3
"""An update takes as long as this many forwards of its tokens: one forward, and a backward of about two."""


@dataclass(frozen=True)
class Speed:
    """Seconds on the machine where the pilot ran."""

    per_prompt_token: float
    per_sampled_token: float
    """Verdicts included."""
    per_sample: float
    """For samples whose tokens are unknown; else 0."""
    scores_demonstrations: bool
    """A profile also puts the demonstrated actions through the model, which takes its prompts once more."""
    is_split: bool
    """Whether prompts were timed alone. If not, a prompt token of a profile is taken to cost as much as a sampled one;
    one of a pilot, as on a server, nothing, because a pilot's prompts share less than those of a profile."""

    def sampling(self, prompt_tokens: Range, sampled_tokens: Range, num_samples: Range) -> Range:
        """Seconds to compute these prompts and sample."""
        prompts = prompt_tokens.times(self.per_prompt_token)
        return prompts.plus(sampled_tokens.times(self.per_sampled_token)).plus(num_samples.times(self.per_sample))

    def update(self, tokens: Range) -> Range:
        return tokens.times(UPDATE_FORWARDS * self.per_prompt_token)


def measured(times: Sequence[BatchTime], scores_demonstrations: bool, is_profile: bool) -> Speed | None:
    """The speed of a pilot; of a profile, whose seconds include scoring its demonstrations. None without times."""
    samples = [time for time in times if time.kind == "samples"]
    alone = [time for time in times if time.kind == "prompts" and time.computed_tokens]
    seconds = sum(time.seconds for time in samples)
    prompts, sampled = (sum(getattr(t, name) for t in samples) for name in ("computed_tokens", "sampled_tokens"))
    number = sum(time.num_samples for time in samples)
    if not number:
        return None
    if not sampled:
        return Speed(0.0, 0.0, seconds / number, scores_demonstrations, bool(alone))
    if alone:
        per_prompt = sum(time.seconds for time in alone) / sum(time.computed_tokens for time in alone)
        # Where prompts took longer alone than with samples, nothing is known of the samples but their least share.
        rest = max(seconds - per_prompt * prompts, 0.1 * seconds)
        return Speed(min(per_prompt, 0.9 * seconds / prompts), rest / sampled, 0.0, scores_demonstrations, True)
    if not is_profile:
        return Speed(0.0, seconds / sampled, 0.0, scores_demonstrations, False)
    passes = 2 if scores_demonstrations else 1
    each = seconds / (passes * prompts + sampled)
    return Speed(each, each, 0.0, scores_demonstrations, False)


@dataclass(frozen=True)
class TokenPrice:
    """What a server asks for tokens."""

    input_price: NotNegative | None = None
    """Of a million prompt tokens on a server, in any currency. A prompt is paid once for all its samples."""
    output_price: NotNegative | None = None
    """Of a million sampled tokens on a server."""

    def __post_init__(self) -> None:
        check(self)

    @property
    def is_given(self) -> bool:
        return self.input_price is not None or self.output_price is not None

    def money(self, prompt_tokens: Range, sampled_tokens: Range) -> Range:
        asked = prompt_tokens.times((self.input_price or 0.0) / 1e6)
        return asked.plus(sampled_tokens.times((self.output_price or 0.0) / 1e6))
