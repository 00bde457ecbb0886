"""A softmax table over a small menu of actions per turn: a trainable policy without a network.

It runs every stage on any trajectories in a second, and its gradients are exact: use it for tests and dry runs. A
"token" is one menu entry: each completion is a single token id (its place on the menu) with its exact
log-probability.

Suffixes: _M menu entries, _G completions of a group.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pivotrl.plugins.describing import spec_text
from pivotrl.protocols import InputError, ObjectiveName, TrainingGroup, Turn, UpdateOptions
from pivotrl.records import Action, Completion, SampleGroup, Sampling
from pivotrl.rendering import action_text
from pivotrl.seeding import derive_seed, uniforms
from pivotrl.storage.folders import atomic_folder
from pivotrl.storage.record_files import sha256_of_json, write_file

Array = npt.NDArray[np.float64]

_FILE = "table.json"
_MAX_LOG_RATIO = 20.0
_MAX_LOGIT = 1e100
"""Beyond it a temperature or another step may overflow."""
_REACH = 256
"""How many messages before and after a turn may enter its menu; bounds the cost in long trajectories."""


class Policy:
    """A table of logits, one row per turn, derived from the seed and the turn's id.

    The menu of a turn is its expected action, then ``num_alternatives`` others: the demonstrated actions of the
    nearest other turns of the trajectory, then made-up texts. A turn still to be played has no expected action; its
    menu holds alternatives only.

    Every initial logit is standard normal; the expected action's mean is itself normal with standard deviation
    ``spread``. With the defaults a fifth of the turns are hopeless (the expected action has less than 3 %), a fifth
    are easy (more than 63 %), and the rest lie between.

    Args:
        num_alternatives: entries besides the expected action.
        spread: how much turns differ in difficulty.
        seed: seed of the initial logits.

    Raises:
        InputError: an option is out of range.
    """

    def __init__(self, *, num_alternatives: int = 3, spread: float = 2.0, seed: int = 0) -> None:
        if num_alternatives < 1:
            raise InputError(f"num_alternatives must be at least 1, not {num_alternatives}: nothing to choose from")
        if not (math.isfinite(spread) and spread >= 0.0):
            raise InputError(f"spread must be a finite number of at least 0, not {spread}")
        self.num_alternatives, self.spread, self.seed = num_alternatives, float(spread), seed
        self._trained: dict[str, Array] = {}

    @property
    def description(self) -> dict[str, str]:
        given = {"num_alternatives": self.num_alternatives, "spread": self.spread, "seed": self.seed}
        return {"policy": spec_text("tabular", Policy, given)}

    @property
    def training_identity(self) -> dict[str, Any]:
        return {}

    @property
    def identity(self) -> dict[str, Any]:
        return {
            "policy": "tabular",
            "num_alternatives": self.num_alternatives,
            "spread": self.spread,
            "seed": self.seed,
        }

    def menu(self, turn: Turn) -> tuple[Action, ...]:
        """The actions that this policy chooses from at the turn: always ``num_alternatives + 1`` different ones."""
        messages = turn.trajectory.messages
        places = (turn.index + step for distance in range(1, _REACH + 1) for step in (-distance, distance))
        nearest = (i for i in places if 0 <= i < len(messages) and messages[i].role == "assistant")
        entries = {}
        if turn.index < len(messages):
            entries[action_text(turn.expected_action)] = turn.expected_action
        for index in nearest:
            if len(entries) > self.num_alternatives:
                break
            action = Turn(turn.trajectory, index).expected_action
            if not action.is_empty:
                entries.setdefault(action_text(action), action)
        number = 0
        while len(entries) <= self.num_alternatives:
            number += 1
            text = f"made-up action {number}"
            entries.setdefault(text, Action(content=text))
        return tuple(entries.values())

    def probabilities(self, turn: Turn, temperature: float = 1.0) -> Array:
        """Probability of each menu entry [M]."""
        return np.exp(_log_softmax(self._logits(turn.id) / temperature))

    def _initial(self, turn_id: str) -> Array:
        generator = np.random.Generator(np.random.Philox(key=derive_seed(self.seed, "logits", turn_id)))
        logits_M = generator.standard_normal(self.num_alternatives + 1)
        logits_M[0] += self.spread * generator.standard_normal()
        return logits_M

    def _logits(self, turn_id: str) -> Array:
        return self._trained[turn_id] if turn_id in self._trained else self._initial(turn_id)

    @property
    def reference(self) -> Policy:
        return Policy(num_alternatives=self.num_alternatives, spread=self.spread, seed=self.seed)

    # --- acting -------------------------------------------------------------------------------------------------------

    def fits(self, turn: Turn, max_tokens: int) -> bool:
        return True

    def sample(
        self, turns: Sequence[Turn], num_samples: int, sampling: Sampling, first: int = 0
    ) -> Iterator[SampleGroup]:
        """See :class:`pivotrl.protocols.Sampler`. Temperature 0 takes the best entry, with its log-probability at
        temperature 1."""
        for turn in turns:
            menu, logits_M = self.menu(turn), self._logits(turn.id)
            logprob_M = _truncated(_log_softmax(logits_M / (sampling.temperature or 1.0)), sampling)
            cumulative_M = np.exp(logprob_M).cumsum()
            completions = []
            for number in range(first, first + num_samples):
                if sampling.temperature == 0.0:
                    chosen = int(logits_M.argmax())
                else:
                    uniform = uniforms(sampling.seed, turn.id, number, 1)[0]
                    chosen = int(np.searchsorted(cumulative_M, uniform * cumulative_M[-1], side="right"))
                completions.append(_completion(menu[chosen], chosen, float(logprob_M[chosen])))
            yield SampleGroup(
                turn_id=turn.id,
                completions_G=tuple(completions),
                first=first,
                num_prompt_tokens=turn.num_context_messages,
                prompt_sha256=_prompt_hash(turn, menu),
            )

    def encode_action(self, turn: Turn, action: Action) -> Completion:
        """See :class:`pivotrl.protocols.Policy`.

        Raises:
            InputError: the action is not on the turn's menu.
        """
        menu, wanted = self.menu(turn), action_text(action)
        for index, entry in enumerate(menu):
            if action_text(entry) == wanted:
                return _completion(entry, index, 0.0)
        raise InputError(
            f"{turn.id}: the tabular policy cannot write {wanted[:80]!r}, which is not on its menu of {len(menu)} "
            "actions; imitate only expected actions or its own samples"
        )

    def action_logprobs(self, turns: Sequence[Turn], groups: Sequence[SampleGroup]) -> list[list[list[float]]]:
        """See :class:`pivotrl.protocols.ScoresActions`."""
        found = []
        for turn, group in zip(turns, groups, strict=True):
            chosen_G = self._menu_indices(turn, group.completions_G, group.prompt_sha256)
            found.append([[float(logprob)] for logprob in _log_softmax(self._logits(turn.id))[chosen_G]])
        return found

    # --- learning -----------------------------------------------------------------------------------------------------

    def update(self, groups: Sequence[TrainingGroup], learning_rate: float, options: UpdateOptions) -> dict[str, float]:
        """Plain gradient ascent (paper eq. 7). Suitable learning rates are of the order of the turns in a batch.

        At either loss level every completion weighs 1 / number of completions, since each is one token. KL to the
        initial table is exact, not estimated from the samples. Metrics are those of the ``hf`` policy. A step whose
        loss or gradient is not finite is skipped.

        Raises:
            InputError: a logit would exceed all bounds; the table stays as it was.
            ValueError: there are no completions, a completion is not from this policy, or a group was sampled from
                a different menu of its turn.
        """
        chosen = [self._menu_indices(group.turn, group.completions_G, group.prompt_sha256) for group in groups]
        total = sum(map(len, chosen))
        if total == 0:
            raise ValueError("an update needs at least one completion")
        num_sampled = sum(not math.isnan(c.logprobs_T[0]) for group in groups for c in group.completions_G)
        old: list[Array] = []
        metrics: dict[str, float] = {}
        for _ in range(options.num_epochs):
            gradients: dict[str, Array] = {}
            metrics = {}
            for number, (group, chosen_G) in enumerate(zip(groups, chosen, strict=True)):
                temperature = options.temperature or 1.0
                logprob_M = _log_softmax(self._logits(group.turn.id) / temperature)
                if number == len(old):
                    old.append(logprob_M[chosen_G])
                gradient_M, parts = self._gradient(group, chosen_G, logprob_M, old[number], total, num_sampled, options)
                gradients[group.turn.id] = gradients.get(group.turn.id, 0.0) + gradient_M / temperature
                for name, value in parts.items():
                    metrics[name] = metrics.get(name, 0.0) + value
            metrics |= self._step(gradients, learning_rate, options, metrics["loss/total"])
        return {**metrics, "tokens/trained": float(total)}

    def _menu_indices(
        self, turn: Turn, completions_G: Sequence[Completion], prompt_sha256: str
    ) -> npt.NDArray[np.intp]:
        if prompt_sha256 and prompt_sha256 != _prompt_hash(turn, self.menu(turn)):
            raise ValueError(f"{turn.id} was sampled from a different rendering than the one used now")
        for completion in completions_G:
            if len(completion.token_ids_T) != 1 or not 0 <= completion.token_ids_T[0] <= self.num_alternatives:
                raise ValueError(f"{turn.id}: a completion was not sampled by a tabular policy with this menu")
        return np.array([completion.token_ids_T[0] for completion in completions_G], dtype=np.intp)

    def _gradient(
        self,
        group: TrainingGroup,
        chosen_G: npt.NDArray[np.intp],
        logprob_M: Array,
        old_G: Array,
        total: int,
        num_sampled: int,
        options: UpdateOptions,
    ) -> tuple[Array, dict[str, float]]:
        """Gradient [M] of the objective with respect to the logits, and this group's part of the metrics."""
        probability_M, logprob_G = np.exp(logprob_M), logprob_M[chosen_G]
        advantage_G = np.asarray(group.advantages_G, dtype=np.float64)
        if options.objective != "policy_gradient":
            slope_G = advantage_G / total
            metrics = {}
            if options.objective == "weighted_likelihood":
                slope_G = slope_G * np.exp(logprob_G)
                metrics["loss/nll"] = -float(logprob_G.sum()) / total
            metrics["loss/total"] = -float(slope_G @ logprob_G)
        else:
            low, high = 1.0 - options.clip_low, 1.0 + options.clip_high
            ratio_G = np.exp(np.clip(logprob_G - old_G, -_MAX_LOG_RATIO, _MAX_LOG_RATIO))
            objective_G = np.minimum(ratio_G * advantage_G, ratio_G.clip(low, high) * advantage_G)
            flows_G = np.where(advantage_G >= 0.0, ratio_G <= high, ratio_G >= low)
            slope_G = np.where(flows_G, ratio_G * advantage_G, 0.0) / total
            sampled_G = np.array([completion.logprobs_T[0] for completion in group.completions_G])
            loss = -float(objective_G.sum()) / total
            metrics = {
                "loss/policy": loss,
                "ratio/mean": float(ratio_G.sum()) / total,
                "ratio/clipped_fraction": float(((ratio_G < low) | (ratio_G > high)).sum()) / total,
                "policy/entropy": -float(probability_M @ logprob_M) * len(chosen_G) / total,
                "loss/total": loss,
            }
            if num_sampled:  # of the whole batch
                metrics["policy/sampler_gap"] = float(np.nansum(np.abs(logprob_G - sampled_G))) / num_sampled
        gradient_M = np.bincount(chosen_G, slope_G, minlength=len(logprob_M)) - slope_G.sum() * probability_M
        if options.kl_coefficient > 0.0:
            log_ratio_M = logprob_M - _log_softmax(self._initial(group.turn.id) / (options.temperature or 1.0))
            share, kl = len(chosen_G) / total, float(probability_M @ log_ratio_M)
            gradient_M -= options.kl_coefficient * share * probability_M * (log_ratio_M - kl)
            metrics["loss/kl"] = share * kl
            metrics["loss/total"] += options.kl_coefficient * share * kl
        return gradient_M, metrics

    def _step(
        self, gradients: dict[str, Array], learning_rate: float, options: UpdateOptions, loss: float
    ) -> dict[str, float]:
        norm = math.sqrt(sum(float(gradient_M @ gradient_M) for gradient_M in gradients.values()))
        finite = math.isfinite(norm) and math.isfinite(loss)
        if finite:
            scale = learning_rate * min(1.0, options.max_gradient_norm / (norm + 1e-6))
            kept = 1.0 - learning_rate * options.weight_decay
            rows = {turn_id: kept * self._logits(turn_id) + scale * step_M for turn_id, step_M in gradients.items()}
            if not all((abs(row) < _MAX_LOGIT).all() for row in rows.values()):
                raise InputError(
                    f"a step at learning rate {learning_rate:g} would make logits beyond {_MAX_LOGIT:g}. The samples "
                    "and the last checkpoint are kept; train again with a lower --learning-rate"
                )
            self._trained |= rows
        return {
            "gradient/norm": norm,
            "update/skipped": float(not finite),
            "update/learning_rate": learning_rate,
        }

    def default_learning_rate(self, objective: ObjectiveName) -> float:
        return 5.0

    # --- judging text -------------------------------------------------------------------------------------------------

    def score_text(self, prompt: str, answer: str) -> tuple[float, float | None, int]:
        """Stand-ins, since a table cannot score text: (log of the menu's size, KL, number of words).

        The first is a constant, not a likelihood. The second is exact but independent of this text: the mean
        KL(table || initial table) over the turns trained on so far, 0 before any training.
        """
        kls = []
        for turn_id, logits_M in self._trained.items():
            logprob_M = _log_softmax(logits_M)
            kls.append(float(np.exp(logprob_M) @ (logprob_M - _log_softmax(self._initial(turn_id)))))
        kl = max(0.0, math.fsum(kls) / len(kls)) if kls else 0.0
        return math.log(self.num_alternatives + 1), kl, len(answer.split()) or 1

    # --- keeping ------------------------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write the rows that training has changed; the seed gives the others. There is no optimizer state.

        Raises:
            ValueError: a logit is not finite; such weights are never saved.
        """
        if bad := [turn_id for turn_id, logits_M in self._trained.items() if not np.isfinite(logits_M).all()]:
            raise ValueError(f"the logits of {bad[0]} are not finite; the checkpoint was not written")
        rows = {turn_id: logits_M.tolist() for turn_id, logits_M in self._trained.items()}
        content = {"identity": self.identity, "logits": rows, "sha256": sha256_of_json(rows)}
        with atomic_folder(path) as folder:
            write_file(folder / _FILE, json.dumps(content, indent=1) + "\n")

    def load(self, path: Path) -> None:
        """Continue from :meth:`save`, bit for bit.

        Raises:
            InputError: the file is missing or damaged, or was written with other options.
        """
        file = path / _FILE
        try:
            content = json.loads(file.read_bytes())
            identity, logits = content["identity"], content["logits"]
            if sha256_of_json(logits) != content["sha256"]:
                raise ValueError("its hash differs")
            rows = {str(turn_id): np.array(row, dtype=np.float64) for turn_id, row in logits.items()}
        except OSError as error:
            raise InputError(
                f"{path} is not a complete checkpoint of a tabular policy: it has no {_FILE}; delete it and resume"
            ) from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise InputError(f"{file} is damaged ({error}); delete {path} and resume") from error
        if identity != self.identity:
            raise InputError(f"{file} was written by {identity}, this policy is {self.identity}; use the same options")
        self._trained = rows

    def export(self, path: Path) -> None:
        """Write ``probabilities.json``: turn id -> probability of each menu entry, for the turns trained on."""
        rows = {turn_id: np.exp(_log_softmax(logits_M)).tolist() for turn_id, logits_M in self._trained.items()}
        with atomic_folder(path) as folder:
            write_file(folder / "probabilities.json", json.dumps(rows, indent=1) + "\n")


def _log_softmax(logits_M: Array) -> Array:
    shifted_M: Array = logits_M - logits_M.max()
    return shifted_M - math.log(float(np.exp(shifted_M).sum()))


def _truncated(logprob_M: Array, sampling: Sampling) -> Array:
    """Log-probabilities within the nucleus of ``top_p``, -inf outside; the entry that crosses ``top_p`` stays in."""
    if sampling.top_p >= 1.0 or sampling.temperature == 0.0:
        return logprob_M
    order = np.argsort(-logprob_M, kind="stable")
    probability = np.exp(logprob_M[order])
    inside = order[probability.cumsum() - probability < sampling.top_p]
    truncated_M = np.full_like(logprob_M, -np.inf)
    truncated_M[inside] = logprob_M[inside]
    return _log_softmax(truncated_M)


def _completion(action: Action, index: int, logprob: float) -> Completion:
    return Completion(
        action=action,
        text=action_text(action),
        token_ids_T=(index,),
        logprobs_T=(logprob,),
        finish_reason="stop",
    )


def _prompt_hash(turn: Turn, menu: Sequence[Action]) -> str:
    return sha256_of_json([turn.id, *map(action_text, menu)])[:32]
