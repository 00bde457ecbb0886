"""The command that the processes of a cluster run, and how it goes on where it stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pivotrl import plugins
from pivotrl.cli.choices import PolicyChoice
from pivotrl.cli.cluster.servers import SERVED
from pivotrl.protocols import InputError
from pivotrl.runs.layout import REPLACED
from pivotrl.runs.manifest import SUFFIX


@dataclass(frozen=True)
class Command:
    """A command line.

    Args:
        words: without ``pivotrl`` and ``--cluster``.
        directory: of its run.
        policy: who acts.
        repeats_overwriting: whether one ``--overwrite`` replaces several stages, one after the other.
    """

    words: tuple[str, ...]
    directory: Path
    policy: PolicyChoice
    repeats_overwriting: bool = False

    @classmethod
    def of(cls, words: Sequence[str], given: Mapping[str, Any]) -> Command:
        """
        Args:
            words: as the user wrote them.
            given: the arguments that they mean.
        """
        directory = given["out"] if words[0] == "run" else given["directory"]
        return cls(tuple(_without(words, "--cluster")), directory, given["policy"], len(given.get("seeds") or ()) > 1)

    def with_servers(self, urls: Sequence[str]) -> Command:
        """The same with a policy that samples at these addresses."""
        name, options = plugins.parse_spec(self.policy.policy)
        given = {"served": SERVED, **options, "base_url": list(urls)}
        spec = f"{name}({', '.join(f'{option}={value!r}' for option, value in given.items())})"
        words = [*_without(self.words, "--policy"), "--policy", spec]
        for option, value in (("--model", self.policy.model), ("--adapter", self.policy.adapter)):
            if value is not None:  # with --policy, what the run remembers of them is left out
                words = [*_without(words, option), option, value]
        return replace(self, words=tuple(words))

    def snapshot(self) -> Snapshot:
        return Snapshot.of(self.directory)

    def again(self, before: Snapshot) -> Command:
        """The command that goes on with what this one has done.

        Args:
            before: as the run was when this one began.

        Raises:
            InputError: it cannot be told what was replaced.
        """
        words = self.words
        if "--overwrite" in words and self.snapshot().has_begun_since(before):
            if self.repeats_overwriting:
                raise InputError(
                    "with --overwrite and several seeds, nothing starts again by itself. Give the same command for the "
                    "seeds that are left, without --overwrite for the one that had begun"
                )
            words = tuple(word for word in words if word != "--overwrite")
        if words[0] == "run" and "--resume" not in words and "--overwrite" not in words:
            words = (*words, "--resume")
        return replace(self, words=words)


@dataclass
class Snapshot:
    """What is on disk of a run."""

    manifests: dict[str, bytes] = field(default_factory=dict)
    replaced: frozenset[str] = frozenset()
    num_bytes: int = 0
    """Of all records."""
    checkpoints: frozenset[str] = frozenset()

    @classmethod
    def of(cls, directory: Path) -> Snapshot:
        found = cls()
        moved = directory / REPLACED
        found.replaced = frozenset(path.name for path in moved.iterdir()) if moved.is_dir() else frozenset()
        for path in sorted(directory.rglob("*")):
            name = path.relative_to(directory).as_posix()
            if name.startswith(f"{REPLACED}/"):
                continue
            try:
                if name.endswith(SUFFIX):
                    found.manifests[name] = path.read_bytes()
                elif path.suffix == ".jsonl":
                    found.num_bytes += path.stat().st_size
                elif path.parent.name == "checkpoints":
                    found.checkpoints |= {name}
            except FileNotFoundError:  # moved meanwhile
                continue
        return found

    def has_begun_since(self, before: Snapshot) -> bool:
        """Whether a stage has begun or was replaced."""
        return self.manifests != before.manifests or self.replaced != before.replaced

    def is_further_than(self, others: Sequence[Snapshot]) -> bool:
        """Whether there are more records than ever, a new checkpoint, or a stage more."""
        return (
            self.num_bytes > max(other.num_bytes for other in others)
            or not self.checkpoints <= frozenset().union(*(other.checkpoints for other in others))
            or len(self.manifests) > max(len(other.manifests) for other in others)
        )


def _without(words: Sequence[str], option: str) -> list[str]:
    """The words without an option and its value."""
    kept, left = list[str](), iter(words)
    for word in left:
        if word == option:
            next(left, None)
        elif not word.startswith(f"{option}="):
            kept.append(word)
    return kept
