"""What the sampler ``ray`` says before any cluster is started; Ray itself is not needed here.

Run alone: python -m pytest tests/test_ray_options.py
"""

from __future__ import annotations

import sys
from typing import Any

import pytest

from pivotrl import cut, plugins
from pivotrl.protocols import InputError, Turn
from pivotrl.records import SampleGroup, Sampling, Trajectory
from pivotrl.samplers.ray import Sampler, _Ahead, _packed
from pivotrl.samplers.ray.cluster import Needs
from pivotrl.samplers.ray.worker import Worker
from pivotrl.samplers.scripted import Sampler as Scripted
from test_training import logs


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    with pytest.raises(InputError, match=r"'ray' needs ray: pip install .*\[ray\]"):
        plugins.load("samplers", "ray(sampler='scripted(script={})', workers=2)")


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({}, "needs either a policy or a sampler"),
        ({"policy": "tabular", "sampler": "scripted(script={})"}, "needs either a policy or a sampler"),
        ({"policy": "hf(modle='m')"}, "hf has no option 'modle'; did you mean 'model'"),
        ({"sampler": "scriptde(script={})"}, "did you mean 'scripted'"),
        ({"sampler": "ray(policy='hf')"}, "cannot hold ray again"),
        ({"sampler": []}, "a plugin as text, or a list of them"),
        ({"sampler": [3]}, "a plugin as text, or a list of them"),
        ({"sampler": ["scripted(script={})"] * 3, "workers": 2}, "leaves out some of the 3 samplers"),
        ({"policy": "hf", "workers": 0}, "workers must be greater than or equal to 1"),
        ({"policy": "hf", "cpus": -1}, "cpus must be greater than or equal to 0"),
    ],
)
def test_wrong_options_are_refused_before_anything_starts(options: dict[str, Any], fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        Sampler(**options)


def test_an_address_where_nothing_listens_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from pivotrl.samplers.ray.cluster import Cluster

    for address, fault in (("127.0.0.1:1", "can be reached at 127.0.0.1:1"), ("http://a", "is no address of a Ray")):
        with pytest.raises(InputError, match=fault):
            Cluster(address, Needs(2, 1, 0))


def test_what_a_cluster_lacks_is_told_in_numbers() -> None:
    assert Needs(2, 1, 0).missing({"CPU": 2.0}) == ""
    assert Needs(3, 1, 0).missing({"CPU": 2.0}) == "3 workers with 1 CPUs each need 3, and there are 2"
    assert Needs(2, 0, 0.5).missing({"CPU": 8.0}) == "2 workers with 0.5 GPUs each need 1, and there are 0"


def test_a_worker_answers_in_texts_what_its_sampler_would_give() -> None:
    turns = [turn for number in (3, 1) for turn in cut(logs(number, number)[-1:])[0]]
    script = {turns[0].id: ["one", "\ud800"], turns[1].id: ["two"]}
    worker = Worker()
    kind, facts, notices = worker.ask("start", "samplers", f"scripted(script={script!r})", True, ".", [])
    assert kind == "ok" and notices == [] and not facts["can_score"] and not facts["is_paid"]
    kind, texts, _ = worker.ask("sample", _packed(turns), 2, Sampling().model_dump_json(), 1)
    assert kind == "ok"
    groups = [SampleGroup.model_validate_json(text) for text in texts]
    assert groups[0].completions_G[0].parse_error == "half_of_a_surrogate_pair"  # no record could hold it
    assert groups[1:] == list(Scripted(script=script).sample(turns, 2, Sampling(), 1))[1:]
    assert facts["identity"] == Scripted(script=script).identity


def test_a_fault_in_a_worker_comes_back_with_its_kind() -> None:
    worker = Worker()
    kind, text, _ = worker.ask("start", "samplers", "scripted(script='nowhere.json')", True, ".", [])
    assert kind == "InputError" and "nowhere.json" in text
    worker.ask("start", "samplers", "scripted(script={})", True, ".", [])
    to_play = Trajectory(id="a", task_id="a", messages=logs(1)[0].messages[:1])
    kind, text, _ = worker.ask("sample", _packed([Turn(to_play, 1)]), 2, Sampling().model_dump_json(), 0)
    assert kind == "InputError" and "still to be played" in text
    kind, text, _ = worker.ask("fits", 3, [1], 2)
    assert kind != "ok" and text


def test_turns_of_a_trajectory_are_asked_about_together() -> None:
    asked: list[tuple[str, list[int]]] = []

    def ask(trajectory: Trajectory, indices: Any, given: Any) -> list[int]:
        asked.append((trajectory.id, list(indices)))
        return [index * given for index in indices]

    ahead, turns = _Ahead(ask), cut(logs(2, 3))[0]
    assert [ahead.at(turn, 2) for turn in turns] == [2 * turn.index for turn in turns]
    assert ahead.at(turns[-1], 3) == 3 * turns[-1].index
    assert asked == [("log0", [1, 3, 5]), ("log1", [1, 3, 5]), ("log1", [5])]
