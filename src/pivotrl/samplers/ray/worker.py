"""What runs in a process of Ray's: one policy or sampler that answers questions in JSON.

Plain texts and numbers go over the wire, no objects of ours, so that what Ray pickles is harmless.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

from pivotrl import plugins
from pivotrl.plugins.shapes import require_sampler, sampled
from pivotrl.protocols import InputError, Notice, NotRenderable, ScoresActions, Turn, TurnTooLong
from pivotrl.records import Action, SampleGroup, Sampling, Trajectory
from pivotrl.rollouts import storable

PASSED = {kind.__name__: kind for kind in (TurnTooLong, NotRenderable, ValueError)}
"""Exceptions that are answers about a turn; they are raised again where the question was asked."""

Work = Sequence[tuple[str, Sequence[int]]]
"""(trajectory as JSON, indices of its turns) of each trajectory."""


class Asked:
    """What runs in a process of Ray's and answers questions: its methods, by their names."""

    def ask(self, question: str, *arguments: Any) -> tuple[str, Any, list[str]]:
        """("ok", answer, notices), or (kind of fault, its text, notices).

        ``InputError`` is what the user can mend; a name in :data:`PASSED` is an answer about a turn; ``broken`` is
        anything else, with its place.
        """
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", Notice)
            try:
                kind, answer = "ok", getattr(self, question)(*arguments)
            except InputError as error:
                kind, answer = "InputError", str(error)
            except Exception as error:
                place = traceback.extract_tb(error.__traceback__)[-1]
                kind, answer = type(error).__name__, str(error)
                if kind not in PASSED:
                    kind, answer = "broken", f"{kind}: {answer} ({place.filename}:{place.lineno})"
        return kind, answer, [str(notice.message) for notice in told]


class Worker(Asked):
    """Holds one policy or sampler."""

    _sampler: Any = None

    def start(self, kind: str, spec: str, has_gpu: bool, folder: str, paths: Sequence[str]) -> dict[str, Any]:
        """Load the policy or sampler; facts about it and about this process.

        Args:
            folder, paths: where the command was called and where it finds modules, for relative paths and the user's
                own plugins. Another machine may lack them.
        """
        with contextlib.suppress(OSError):
            os.chdir(folder)
        sys.path += [path or folder for path in paths if path not in sys.path]
        if not has_gpu:  # ``device='auto'`` would take one that belongs to others
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        name, options = plugins.parse_spec(spec)
        known = plugins.options_of(plugins.find(kind, name))
        # A policy that is only sampled needs no optimizer and no second copy of its weights.
        untrained = {"trainable": False} if "trainable" in known and "trainable" not in options else {}
        self._sampler = plugins.load(kind, spec, **untrained)
        require_sampler(self._sampler)
        learner = getattr(self._sampler, "learner", None)
        scores = isinstance(self._sampler, ScoresActions) and (learner is None or hasattr(learner, "token_logprobs"))
        described = getattr(self._sampler, "description", {})
        return {
            "identity": dict(self._sampler.identity),
            "description": {**described, "policy": spec} if kind == "policies" else dict(described),
            "is_paid": bool(getattr(self._sampler, "is_paid", False)),
            "can_score": scores,
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }

    def fits(self, trajectory: str, indices: Sequence[int], max_tokens: int) -> list[bool | str]:
        """Of each turn: whether it fits, or why it cannot be rendered."""
        found: list[bool | str] = []
        for turn in _turns([(trajectory, indices)]):
            try:
                found.append(bool(self._sampler.fits(turn, max_tokens)))
            except NotRenderable as error:
                found.append(str(error))
        return found

    def sample(self, work: Work, num_samples: int, sampling: str, first: int) -> list[str]:
        """The groups of all turns as JSON, in order."""
        settings = Sampling.model_validate_json(sampling)
        groups = sampled(self._sampler, _turns(work), num_samples, settings, first)
        return [
            group.model_copy(update={"completions_G": tuple(map(storable, group.completions_G))}).model_dump_json()
            for group in groups
        ]

    def encode(self, trajectory: str, indices: Sequence[int], actions: Sequence[str]) -> list[tuple[bool, str]]:
        """Of each action: (True, the completion as JSON), or (False, why it cannot be written)."""
        found = []
        for turn, action in zip(_turns([(trajectory, indices)]), actions, strict=True):
            try:
                written = self._sampler.encode_action(turn, Action.model_validate_json(action))
                found.append((True, written.model_dump_json()))
            except (NotRenderable, InputError) as error:  # a table refuses what is not on its menu
                found.append((False, str(error)))
        return found

    def score(self, work: Work, groups: Sequence[str]) -> list[list[list[float]]]:
        """Log-probabilities [turn][sample][token]."""
        given = [SampleGroup.model_validate_json(group) for group in groups]
        rows: list[list[list[float]]] = self._sampler.action_logprobs(_turns(work), given)
        return [[[float(value) for value in sample] for sample in turn] for turn in rows]


def _turns(work: Work) -> list[Turn]:
    turns = []
    for text, indices in work:
        trajectory = Trajectory.model_validate_json(text)
        turns += [Turn(trajectory, index) for index in indices]
    return turns
