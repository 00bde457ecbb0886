"""The index of the page: a row for each trajectory, each turn, and each result, as columns of equal length."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from pivotrl.records import Action, Trajectory
from pivotrl.report.browser.packing import Place
from pivotrl.report.browser.samples import Draws, Summary
from pivotrl.report.browser.shortening import clipped, short_act
from pivotrl.report.wavering import written
from pivotrl.selection.actions import MESSAGE, tools_called

_MAX_CLUSTERS = 500
_MIN_CLUSTERS = 50
"""Of each source, if so many sources share the page that fewer than this would be left to each."""
_MAX_CLUSTER_TURNS = 1000

Columns = dict[str, list[Any]]


def _columns(names: str) -> Columns:
    return {name: [] for name in names.split()}


class Numbers:
    """Words that rows refer to by number."""

    def __init__(self, *first: str) -> None:
        self._numbers = {word: number for number, word in enumerate(first)}

    def __call__(self, word: str) -> int:
        return self._numbers.setdefault(word, len(self._numbers))

    def __iter__(self) -> Any:
        return iter(self._numbers)


@dataclass
class _Cluster:
    source: int
    tool: int
    reason: int
    act: dict[str, Any]
    text: str
    """As sampled, if no action could be read from it."""
    count: int = 0
    turns: list[int] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "turns": self.turns[:_MAX_CLUSTER_TURNS]}


class Index:
    """Grows with every trajectory."""

    def __init__(self, num_sources: int) -> None:
        self.tools = Numbers("")
        self.codes = Numbers()
        self.num_turns = 0
        self._trajectories = _columns("id task split reward source note num_messages chunk slot first_turn num_turns")
        self._turns = _columns("trajectory message depth tool status pivot steps prompt prompt_slot")
        self._results = [
            _columns("turn passed failed unknown mean cut_off malformed reason chunk slot") for _ in range(num_sources)
        ]
        self._clusters: dict[tuple[int, bytes], _Cluster] = {}

    def add_trajectory(self, trajectory: Trajectory, split: str, place: Place, **facts: Any) -> None:
        """Its turns come next."""
        row = {
            "id": trajectory.id,
            "task": trajectory.task_id,
            "split": split,
            "reward": trajectory.reward,
            "source": None,
            "note": "",
            "num_messages": len(trajectory.messages),
            "chunk": place[0],
            "slot": place[1],
            "first_turn": self.num_turns,
            "num_turns": 0,
            **facts,
        }
        _append(self._trajectories, row)

    def add_turn(
        self, message: int, depth: int, action: Action, status: str, pivot: bool, steps: int, prompt: Place | None
    ) -> int:
        """A turn of the latest trajectory; its number."""
        row = {
            "trajectory": len(self._trajectories["id"]) - 1,
            "message": message,
            "depth": depth,
            "tool": self._tool(action),
            "status": self.codes(status),
            "pivot": int(pivot),
            "steps": steps,
            "prompt": prompt[0] if prompt else -1,
            "prompt_slot": prompt[1] if prompt else -1,
        }
        _append(self._turns, row)
        self._trajectories["num_turns"][-1] += 1
        self.num_turns += 1
        return self.num_turns - 1

    def add_result(self, source: int, turn: int, result: Summary, place: Place) -> None:
        _append(self._results[source], {"turn": turn, **vars(result), "chunk": place[0], "slot": place[1]})

    def add_wrong_actions(self, source: int, turn: int, draws: Draws) -> None:
        """Count the failed actions of a turn, equal ones together."""
        tool = self._turns["tool"][turn]
        for drawn in draws.samples:
            if drawn.verdict.outcome != "fail":
                continue
            text = written(drawn.completion)
            key = source, hashlib.sha256(f"{tool}\0{drawn.verdict.reason}\0{text}".encode()).digest()[:16]
            cluster = self._clusters.get(key)
            if cluster is None:
                action, reason = drawn.completion.action, self.codes(drawn.verdict.reason)
                unread = clipped(text) if action.is_empty else ""
                cluster = self._clusters[key] = _Cluster(source, tool, reason, short_act(action), unread)
            cluster.count += 1
            if not cluster.turns or cluster.turns[-1] != turn:
                cluster.turns.append(turn)

    def turns_of(self, source: int) -> set[int]:
        """Turns with results in a source."""
        return set(self._results[source]["turn"])

    def as_json(self) -> dict[str, Any]:
        return {
            "trajectories": self._trajectories,
            "tools": list(self.tools),
            "codes": list(self.codes),
            "turns": self._turns,
            "results": self._results,
            "clusters": [cluster.as_json() for cluster in self._commonest()],
        }

    def _commonest(self) -> list[_Cluster]:
        """Clusters with the highest counts, so many of each source; the commonest first."""
        left = [max(_MIN_CLUSTERS, _MAX_CLUSTERS // max(1, len(self._results)))] * len(self._results)
        kept = []
        for cluster in sorted(self._clusters.values(), key=lambda cluster: -cluster.count):
            if left[cluster.source]:
                left[cluster.source] -= 1
                kept.append(cluster)
        return kept

    def _tool(self, action: Action) -> int:
        name = tools_called(action)
        return 0 if name == MESSAGE else self.tools(name)


def _append(columns: Columns, row: dict[str, Any]) -> None:
    assert columns.keys() == row.keys(), columns.keys() ^ row.keys()
    for name, value in row.items():
        columns[name].append(value)
