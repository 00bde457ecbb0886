"""Whatever happens to a run at any file event or moment, it is resumed and ends as if nothing had happened.

The short campaign runs with the fast suite; the whole one is ``make kills``. ``make kills NUM_KILLS=5000`` goes on with
kills at random moments, over read, profile, select, evaluate, train and report, until there are that many of them.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import pivotrl.pipeline
from faults import NEEDS_SPACE, Attempt, Fault, Kind, attempt, bought_again, content
from pivotrl import (
    EvaluationOptions,
    Observation,
    ProfileOptions,
    SelectionOptions,
    TrainingOptions,
    Verdict,
    run,
)
from pivotrl.judging.lint import CheckOptions
from pivotrl.policies.hf import Policy as HfPolicy
from pivotrl.policies.tabular import Policy as TabularPolicy
from pivotrl.readers.chat import read
from pivotrl.records import Message
from pivotrl.runs.layout import STAGES
from pivotrl.runs.manifest import manifest_path, read_manifest
from pivotrl.storage.record_files import package_versions, sha256_of_json, write_file
from test_pipeline import write_logs
from tiny import save_tiny_model

Work = Callable[[Path, Callable[..., None]], None]


_MOST_KILLS = 60
"""In one run; the next attempt is left alone."""


class Guess:
    """Two moves, then a reward: an environment for the episodes."""

    context_window = None

    def __init__(self, number: int) -> None:
        self.task_id, self.tags, self._moves = f"guess{number}", dict[str, str](), 0

    def reset(self) -> tuple[Message, ...]:
        self._moves = 0
        return (Message(role="user", content="Guess."),)

    def step(self, action: Any) -> Observation:
        self._moves += 1
        return Observation(messages=(Message(role="user", content="No."),), reward=0.5, done=self._moves == 2)


def guesses() -> list[Guess]:
    return [Guess(number) for number in range(3)]


def verify(turn, action):
    """Runs in a child of its own, which must not outlive the run or hold its lock."""
    passes = (action.content or "z")[0] < "T" or action == turn.expected_action
    return Verdict.passed() if passes else Verdict.failed("high")


def quick_verify(turn, action):
    return verify(turn, action)


quick_verify.in_process = True  # type: ignore[attr-defined]


class OldTabularPolicy(TabularPolicy):
    """Saves as it once did: the folder first, then the file in it."""

    def save(self, path: Path) -> None:
        rows = {turn_id: logits_M.tolist() for turn_id, logits_M in self._trained.items()}
        content = {"identity": self.identity, "logits": rows, "sha256": sha256_of_json(rows)}
        write_file(path / "table.json", json.dumps(content))


@dataclass
class Campaign:
    """Runs of one policy under faults, each compared with the undisturbed one."""

    work: Work
    top: Path
    whole: Attempt
    first_of_report: int
    """The event at which the report begins; what is resumed after earlier ones is spared it."""
    seconds: float = 0.0
    resume_seconds: float = 0.0
    """Processor time of the undisturbed run without its report, and of resuming it when all is done."""
    num_kills: int = 0
    num_runs: int = 0
    stages_struck: Counter[str] = field(default_factory=Counter)
    """How many kills at random moments struck in which stage."""

    @property
    def places(self) -> list[str]:
        """Where each event of the undisturbed run was."""
        return self.whole.places

    def struck(self, kind: Kind, number: int) -> list[str]:
        """What is wrong after one fault and the resumption."""
        folder = self._new_folder()
        first = attempt(self.work, folder, self.top / "log", Fault(kind, number))
        place = f"{kind} at event {number} ({self.whole.events[number - 1]} {self.places[number - 1]})"
        return [f"{place}: {fault}" for fault in self._outcome(kind, first) + self._resumed(folder, [first], number)]

    def chain(self, generator: random.Random, longest: float, reports: bool) -> list[str]:
        """What is wrong after kills at random moments of the run and of its resumptions, until one of them ends.

        Args:
            longest: processor seconds before a kill, at most; the report has its own on top.
            reports: whether the run writes its report.
        """
        folder, attempts = self._new_folder(), list[Attempt]()
        work = self.work if reports else without_report(self.work)
        while not attempts or attempts[-1].code < 0:
            more = self.whole.cpu_seconds - self.seconds if reports and stage_in(folder) == "the report" else 0.0
            moment = generator.random() * (longest + more) if len(attempts) < _MOST_KILLS else None
            attempts.append(attempt(work, folder, self.top / "log", seconds=moment))
            self.num_kills += attempts[-1].code < 0
            if attempts[-1].code < 0:
                self.stages_struck[stage_in(folder)] += 1
        if attempts[-1].code:
            return [f"random kills: cannot be resumed: {attempts[-1].said}"]
        return [f"random kills: {fault}" for fault in self._differences(folder, attempts, reports)]

    def _new_folder(self) -> Path:
        self.num_runs += 1
        return self.top / f"run{self.num_runs}"

    def _outcome(self, kind: Kind, first: Attempt) -> list[str]:
        self.num_kills += first.code < 0
        expected = (-9,) if kind == "kill" else (0, 4)  # what cannot be removed is left for later
        return [] if first.code in expected else [f"ended with {first.code}: {first.said}"]

    def _resumed(self, folder: Path, attempts: list[Attempt], number: int) -> list[str]:
        with_report = number >= self.first_of_report or attempts[0].code == 0
        last = attempt(self.work if with_report else without_report(self.work), folder, self.top / "log")
        if last.code != 0:
            return [f"cannot be resumed: {last.said}"]
        return self._differences(folder, [*attempts, last], with_report)

    def _differences(self, folder: Path, attempts: list[Attempt], with_report: bool) -> list[str]:
        """In what the run, ended now, differs from the undisturbed one."""
        found, wanted = content(folder), content(self.top / "whole")
        if not with_report:
            wanted = {name: data for name, data in wanted.items() if not name.startswith("report.")}
        faults = [f"{name} differs" for name in sorted(found.keys() | wanted) if found.get(name) != wanted.get(name)]
        if again := bought_again(self.whole, attempts):
            faults.append(f"bought again: {dict(again)}")
        return faults


def stage_in(folder: Path) -> str:
    """The stage that a killed run was in."""
    known = [stage for stage in STAGES if manifest_path(folder, stage).is_file()]
    if not known:
        return "the beginning"
    done = read_manifest(manifest_path(folder, known[-1])).status == "complete"
    if done and known[-1] == STAGES[-1]:
        return "the report"
    return f"after {known[-1]}" if done else known[-1]


def without_report(work: Work) -> Work:
    def shorter(folder: Path, bought: Callable[..., None]) -> None:
        pivotrl.pipeline.write_report = lambda directory: directory  # type: ignore[assignment] # in a fork
        work(folder, bought)

    return shorter


def prepared(top: Path, name: str) -> Campaign:
    """The undisturbed run of a policy, its file events counted."""
    logs = str(write_logs(top / "logs.jsonl", 6))
    options: dict[str, Any] = {
        "reader": read,
        "verifier": verify if name in ("lora", "full") else quick_verify,
        "checking": CheckOptions(max_false_pass=1.0),
        "profiling": ProfileOptions(num_samples=4, batch_turns=6, max_tokens=8),
        "selection": SelectionOptions(max_mean=1.0),
        "training": TrainingOptions(
            num_steps=5, turns_per_step=3, group_size=4, learning_rate=0.1, checkpoint_every=2, train_max_tokens=8
        ),
        "evaluation": EvaluationOptions(eval_temperature=1.0, eval_batch=2, eval_max_tokens=4),
        "environments": guesses,
        "retention": [{"id": str(i), "source": "s", "prompt": "q", "answer": "a"} for i in range(2)],
    }
    policy: Any = {"tabular": TabularPolicy, "old tabular": OldTabularPolicy}.get(name, lambda: None)()
    if policy is None:
        model, rank = str(save_tiny_model(top / "model")), {"lora": 2, "full": 0}[name]
        policy = HfPolicy(model=model, lora_rank=rank, dtype="float32", device="cpu")
    real = policy.sample

    def work(folder: Path, bought: Callable[..., None]) -> None:
        def counted(turns: Any, num_samples: int, sampling: Any) -> Iterator[Any]:
            for turn in turns:
                bought(f"{turn.id} seed {sampling.seed}")
            return real(turns, num_samples, sampling)

        policy.sample = counted
        run(logs, folder, policy=policy, resume=True, **options)

    package_versions()
    load_what_is_loaded_late(work, top)
    gc.freeze()
    whole = attempt(work, top / "whole", top / "log")
    assert whole.code == 0, whole.said
    begun = attempt(without_report(work), top / "begun", top / "log")
    again = attempt(without_report(work), top / "begun", top / "log")
    return Campaign(work, top, whole, len(begun.events) + 1, begun.cpu_seconds, again.cpu_seconds)


def load_what_is_loaded_late(work: Work, top: Path) -> None:
    """Here, once, so that no fork spends its time on it: every module, and the templates and fonts of the report."""

    def told(folder: Path, bought: Callable[..., None]) -> None:
        work(folder, bought)
        (top / "modules").write_text("\n".join(set(sys.modules) - before))

    before = set(sys.modules)
    done = attempt(told, top / "loading", top / "log")
    assert done.code == 0, done.said
    for name in (top / "modules").read_text().split():
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    pivotrl.pipeline.write_report(top / "loading")


def points(campaign: Campaign, kind: Kind, every: int = 1) -> list[int]:
    """Events at which this kind of fault is tried; those of a full disk are the ones that need space."""
    found = [n for n, event in enumerate(campaign.whole.events, 1) if kind != "full" or event in NEEDS_SPACE]
    return found[every // 2 :: every]


def test_a_run_ends_alike_whatever_strikes_it(tmp_path: Path) -> None:
    tabular, lora = (prepared(make_folder(tmp_path / name), name) for name in ("tabular", "lora"))
    faults = []
    for campaign, kind, every in (
        (tabular, "kill", 9),
        (tabular, "full", 60),
        (tabular, "fails", 70),
        (lora, "kill", 90),
        (lora, "full", 200),
    ):
        for number in points(campaign, kind, every):
            faults += campaign.struck(kind, number)
    assert not faults
    assert tabular.num_kills + lora.num_kills > 28


def test_the_campaign_finds_a_policy_that_saves_in_place(tmp_path: Path) -> None:
    """Without this, a campaign that strikes beside the files would pass as well."""
    campaign = prepared(tmp_path, "old tabular")
    saves = [n for n in points(campaign, "kill") if campaign.places[n - 1].endswith("step_000004/.table.json.tmp")]
    faults = campaign.struck("kill", saves[0])
    assert any("not a complete checkpoint of a tabular policy" in fault for fault in faults)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tabular", "lora", "full"])
@pytest.mark.parametrize(("kind", "every"), [("kill", 1), ("full", 2), ("fails", 3)])
def test_a_fault_at_any_file_event_changes_nothing(tmp_path: Path, name: str, kind: Kind, every: int) -> None:
    campaign = prepared(tmp_path, name)
    numbers = points(campaign, kind, every)
    faults = [fault for number in numbers for fault in campaign.struck(kind, number)]
    print(f"{name}: {kind} at {len(numbers)} of {len(campaign.whole.events)} file events, {len(faults)} faults found")
    assert not faults


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tabular", "lora", "full"])
def test_kills_at_random_moments_change_nothing(tmp_path: Path, name: str) -> None:
    campaign, generator = prepared(tmp_path, name), random.Random(7)
    began, wanted, faults = time.monotonic(), int(os.environ.get("NUM_KILLS") or 450) / 3, list[str]()
    while campaign.num_kills < wanted:
        # After a short span the next kill strikes close by; a long one jumps over whole stages.
        share = generator.choice((0.1, 0.3, 1.0))
        longest = campaign.resume_seconds + share * (campaign.seconds - campaign.resume_seconds)
        faults += campaign.chain(generator, longest, reports=campaign.num_runs % 8 == 0)
        shutil.rmtree(tmp_path / f"run{campaign.num_runs}")
    took = time.monotonic() - began
    struck = ", ".join(f"{stage} {number}" for stage, number in campaign.stages_struck.most_common())
    told = f"{campaign.num_kills} kills at random moments of {campaign.num_runs} runs in {took:.0f} s"
    print(f"{name}: {told} ({struck}), {len(faults)} faults found")
    assert not faults
    assert len(campaign.stages_struck) > 6


def make_folder(path: Path) -> Path:
    path.mkdir()
    return path
