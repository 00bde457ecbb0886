"""What an evaluation measures, how often, and at which temperatures."""

from __future__ import annotations

from dataclasses import dataclass

from pivotrl.options import AtLeast0, AtLeast1, NotNegative, check, refuse
from pivotrl.records import Sampling


@dataclass(frozen=True)
class Draw:
    """How often each item is sampled, and at which temperature."""

    temperature: float
    num_samples: int


@dataclass(frozen=True)
class EvaluationOptions:
    """What is measured before and after training."""

    heldout_turns: AtLeast0 | None = 200
    """Maximum number of held-out turns, drawn round-robin over tasks; None takes all, 0 none."""
    progress_trajectories: AtLeast0 | None = 0
    """Held-out trajectories to walk with the policy's own actions in the history, until its first wrong one; None takes
    all, 0 none."""
    eval_temperatures: tuple[NotNegative, ...] | None = None
    """Measure at each of these temperatures, such as 0 1 (0 is greedy). turn_samples and episodes_per_task then
    apply above 0; at 0 there is one of each. Replaces eval_temperature and turn_temperature."""
    eval_temperature: NotNegative = 0.0
    """Temperature of episodes, and of turns unless turn_temperature is given; 0 is greedy."""
    turn_samples: AtLeast1 = 1
    """Actions sampled per held-out turn; the turn's result is the mean of their rewards."""
    turn_temperature: NotNegative | None = None
    """Temperature of held-out turns; None takes eval_temperature. 1 with several samples measures the training goal."""
    episodes_per_task: AtLeast1 = 1
    """Episodes per task of each environment, and walks per trajectory; more than one needs a temperature above 0."""
    eval_max_tokens: AtLeast1 = 256
    """Longest action, in tokens; a longer one is cut off and fails."""
    eval_seed: int = 0
    """Seed of the held-out turns that are drawn, and of all samples."""
    eval_batch: AtLeast1 = 64
    """Turns or episodes that run together. Results of turns are written after each batch."""

    def __post_init__(self) -> None:
        check(self)
        if self.eval_temperatures is not None:
            told = " ".join(f"{temperature:g}" for temperature in self.eval_temperatures)
            if not told or len(set(self.eval_temperatures)) != len(self.eval_temperatures):
                refuse("eval_temperatures", told, "must name one or more temperatures, each once")
        if self.turn_samples > 1 and not any(draw.temperature for draw in self.turn_draws):
            refuse("turn_samples", self.turn_samples, "at temperature 0 are one sample; give --turn-temperature")
        if self.episodes_per_task > 1 and not any(draw.temperature for draw in self.episode_draws):
            at_zero = "at temperature 0 are one episode; give --eval-temperature"
            refuse("episodes_per_task", self.episodes_per_task, at_zero)

    @property
    def turn_draws(self) -> tuple[Draw, ...]:
        """How held-out turns are sampled."""
        alone = self.eval_temperature if self.turn_temperature is None else self.turn_temperature
        return self._draws(alone, self.turn_samples)

    @property
    def episode_draws(self) -> tuple[Draw, ...]:
        """How episodes are played, and how trajectories are walked."""
        return self._draws(self.eval_temperature, self.episodes_per_task)

    def _draws(self, alone: float, num_samples: int) -> tuple[Draw, ...]:
        temperatures = (alone,) if self.eval_temperatures is None else self.eval_temperatures
        return tuple(Draw(float(t), num_samples if t > 0 else 1) for t in temperatures)

    def sampling(self, temperature: float) -> Sampling:
        """How one action is sampled at a temperature."""
        return Sampling(temperature=temperature, max_tokens=self.eval_max_tokens, seed=self.eval_seed)
