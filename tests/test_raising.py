"""A sampler, verifier, environment or observer that raises in the middle of its work: what was bought stays, the run
goes on when it is started again, and nothing that was stored is bought twice.

Run alone: python -m pytest tests/test_raising.py
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

from faults import content
from pivotrl import Action, EvaluationOptions, InputError, Message, Observation, TrainingOptions, Verdict, run
from pivotrl.judging.lint import CheckOptions
from pivotrl.policies.tabular import Policy
from pivotrl.profiling import ProfileOptions
from pivotrl.protocols import Notice, Turn
from pivotrl.protocols.observing import Observer
from pivotrl.readers.chat import read
from pivotrl.records import EpisodeResult, Manifest, SampleGroup, Sampling, TurnResult, episode_key
from pivotrl.runs.manifest import read_manifest
from pivotrl.seeding import derive_seed
from pivotrl.storage.record_files import read_records
from pivotrl.verifiers import exact
from test_pipeline import write_logs

TRAINING = TrainingOptions(num_steps=4, turns_per_step=4, group_size=4, learning_rate=1.0, checkpoint_every=1)
EVALUATION = EvaluationOptions(eval_temperature=1.0, episodes_per_task=2, eval_batch=2)
Key = tuple[str, str, int]
"""Stage, turn, and the seed of its step."""


class Blown(Exception):
    pass


class Fuse:
    """Lets so many uses pass and raises at the next one."""

    def __init__(self, holds: int | None = None, error: type[Exception] = Blown) -> None:
        self.holds, self.error, self.uses = holds, error, 0

    def use(self) -> None:
        if self.uses == self.holds:
            raise self.error("the fuse has blown")
        self.uses += 1


class Listener(Observer):
    def __init__(self, fuse: Fuse, at_steps: Fuse) -> None:
        self.fuse, self.at_steps, self.stage = fuse, at_steps, ""

    def started(self, stage: str, manifest: Manifest) -> None:
        self.stage = stage
        self.fuse.use()

    def progress(self, kind: str, done: int, total: int, note: str = "") -> None:
        self.fuse.use()

    def step(self, number: int, metrics: Any) -> None:
        """Its samples and metrics are stored, its checkpoint is not."""
        self.at_steps.use()


class Acting(Policy):
    """Notes each sample that is asked of it."""

    def __init__(self, fuse: Fuse, listener: Listener) -> None:
        super().__init__()
        self.fuse, self.listener, self.bought = fuse, listener, list[Key]()

    def sample(
        self, turns: Sequence[Turn], num_samples: int, sampling: Sampling, first: int = 0
    ) -> Iterator[SampleGroup]:
        for turn in turns:
            self.fuse.use()
            self.bought.append((self.listener.stage, turn.id, sampling.seed))
            yield from super().sample([turn], num_samples, sampling, first)


@dataclass(kw_only=True)
class Verifying:
    in_process: ClassVar[bool] = True
    fuse: Fuse = field(repr=False)

    def __call__(self, turn: Turn, action: Action) -> Verdict:
        self.fuse.use()
        return exact.verify(turn, action)


@dataclass
class Corridor:
    task_id: str
    fuse: Fuse
    left: int = 3
    tags: ClassVar[dict[str, str]] = {}
    context_window: ClassVar[None] = None

    def reset(self) -> list[Message]:
        return [Message(role="user", content=f"Walk the {self.task_id}.")]

    def step(self, action: Action) -> Observation:
        self.fuse.use()
        self.left -= 1
        return Observation((Message(role="user", content="On."),), reward=1.0, done=not self.left, reason="end")


@dataclass
class Corridors:
    fuse: Fuse
    names: tuple[str, ...]

    def tasks(self) -> Sequence[str]:
        return self.names

    def make(self, task: str) -> Corridor:
        return Corridor(task, self.fuse)


def attempt(folder: Path, name: str, fuses: dict[str, Fuse], resume: bool = False) -> list[Key]:
    """The whole way, with two environments at once, in ``folder/name``; what was bought."""
    listener = Listener(fuses["observer"], fuses["observer of steps"])
    policy = Acting(fuses["sampler"], listener)
    try:
        run(
            str(folder / "logs.jsonl"),
            folder / name,
            reader=read,
            verifier=Verifying(fuse=fuses["verifier"]),
            policy=policy,
            environments={
                "near": lambda: Corridors(fuses["environment"], ("hall", "stair")),
                "far": lambda: Corridors(fuses["environment"], ("hall", "cellar")),
            },
            profiling=ProfileOptions(num_samples=4, batch_turns=3),
            checking=CheckOptions(check_turns=3),
            training=TRAINING,
            evaluation=EVALUATION,
            resume=resume,
            observer=listener,
        )
    finally:
        fuses["sampler"].bought = policy.bought  # type: ignore[attr-defined]
    return policy.bought


def fuses(**given: Fuse) -> dict[str, Fuse]:
    names = ("sampler", "verifier", "environment", "observer", "observer of steps")
    return {name: given.get(name) or Fuse() for name in names}


def stored(directory: Path) -> set[Key]:
    """What is on the disk, as far as it does not depend on the stage's own seed (those have the seed 0)."""
    found = {("profile", group.turn_id, 0) for group in _records(directory / "profiles.jsonl", SampleGroup)}
    for group in _records(directory / "train" / "groups.jsonl", SampleGroup):
        found.add(("train", group.turn_id, derive_seed(TRAINING.train_seed, "step", group.step)))
    for stage in ("evaluations/before", "evaluations/after"):
        found |= {(stage, one.turn_id, 0) for one in _records(directory / f"{stage}.turns.jsonl", TurnResult)}
        for one in _records(directory / f"{stage}.episodes.jsonl", EpisodeResult):
            name = episode_key(one.environment, one.task_id, one.number)
            found |= {(stage, f"episode-{name}#{turn.index}", 0) for turn in one.turns}
    return found


def files(directory: Path) -> dict[str, bytes]:
    """Every file but manifests, times left out."""
    return {name: data for name, data in content(directory).items() if not name.endswith("manifest.json")}


def _records(path: Path, model: Any) -> list[Any]:
    return list(read_records(path, model)) if path.is_file() else []


def comparable(bought: Sequence[Key]) -> Counter[Key]:
    return Counter((stage, turn, seed if stage == "train" else 0) for stage, turn, seed in bought)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Counter[Key], dict[str, int]]:
    """An undisturbed run: its folder, what it bought, and how often each collaborator was used."""
    folder = tmp_path_factory.mktemp("raising")
    write_logs(folder / "logs.jsonl", 6)
    used = fuses()
    bought = attempt(folder, "whole", used)
    return folder, comparable(bought), {name: fuse.uses for name, fuse in used.items()}


def test_the_undisturbed_run_buys_everything_once_in_both_environments(whole: Any) -> None:
    folder, bought, _ = whole
    assert set(bought.values()) == {1} and set(bought) == stored(folder / "whole")
    results = read_records(folder / "whole" / "evaluations" / "after.episodes.jsonl", EpisodeResult)
    assert Counter(result.environment for result in results) == {"near": 4, "far": 4}


def test_a_verifier_that_no_text_can_name_is_not_named_in_a_manifest(whole: Any) -> None:
    """Otherwise a later command would take the text for one that it can load."""
    folder, _, _ = whole
    assert read_manifest(folder / "whole" / "train.manifest.json").plugins == {"verifier": None}


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize(
    ("name", "error", "told"),
    [
        ("sampler", RuntimeError, "Acting fails in sample: RuntimeError: the fuse has blown"),
        ("verifier", InputError, "the fuse has blown"),
        ("environment", RuntimeError, "fails in step: RuntimeError: the fuse has blown"),
        ("observer", Blown, "the fuse has blown"),
        ("observer of steps", Blown, "the fuse has blown"),
    ],
)
def test_what_was_bought_stays_and_nothing_is_bought_twice(
    whole: Any, name: str, error: type[Exception], told: str, share: float
) -> None:
    folder, expected, uses = whole
    directory, blown = folder / f"{name}-{share}", fuses(**{name: Fuse(int(share * uses[name]), error)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        with pytest.raises(Blown if error is Blown else InputError, match=told):
            attempt(folder, directory.name, blown)
        first, kept = comparable(blown["sampler"].bought), stored(directory)  # type: ignore[attr-defined]
        second = comparable(attempt(folder, directory.name, fuses(), resume=True))
    assert kept <= set(first) and not kept & set(second), "what was stored was bought again"
    assert kept or share < 0.9  # the verifier is first used in the check, before anything is bought
    assert first.keys() | second.keys() == expected.keys()
    in_flight = first & second
    batch = max(3, TRAINING.turns_per_step, 2 * 3)  # turns of a profile's batch, of a step, of two episodes
    assert sum((first + second - expected).values()) == sum(in_flight.values()) <= batch
    assert stored(directory) == set(expected)
    assert files(directory) == files(folder / "whole")
    for stage in ("profile", "select", "train", "evaluations/before", "evaluations/after"):
        one, other = (read_manifest(place / f"{stage}.manifest.json") for place in (directory, folder / "whole"))
        for manifest in (one, other):
            manifest.counts.get("one_visit", {}).pop("seconds", None)  # measured: no two profiles take the same time
        assert (one.status, one.counts, one.options) == (other.status, other.counts, other.options), stage
