"""A checkpoint of several processes loads in any number of them, and a resumed training is the uninterrupted one."""

from __future__ import annotations

import pytest
import torch

from crews import together
from distributed_work import OPTIONS, lesson, make_examples, make_site, make_weights, share_of, whole_state
from pivotrl.engine.distributed.checkpoint import read_state
from pivotrl.engine.distributed.crew import Failed
from pivotrl.engine.learning import LocalLearner
from pivotrl.protocols import InputError

SETTING = ("qwen3", torch.float32, 0, "split")


def learn(crew, site, number):
    site.update(lesson(), share_of(crew, make_examples(3, number)))
    return whole_state(site)


def begin(crew, folder):
    """Two updates, each with a checkpoint."""
    site, states = make_site(crew, *SETTING), []
    for number in range(2):
        states.append(learn(crew, site, number))
        site.save(folder / f"step{number}")
    return states


def go_on(crew, folder, other):
    """The second update after the first checkpoint; and what a checkpoint of one process holds."""
    site = make_site(crew, *SETTING)
    site.load(folder / "step0")
    loaded = whole_state(site)
    learned = learn(crew, site, 1)
    with pytest.raises((OSError, Failed)):  # the leader cannot make the folder, and all know
        site.save(folder / "step0" / "state.json" / "below")
    site.load(other)
    return loaded, learned, whole_state(site)


def same(found, expected, **tolerance):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, **tolerance)


def learner_of_one():
    return LocalLearner(make_weights(*SETTING[:3]), "split", 64, write=lambda *_, **__: None)


def state_of(learner):
    found = {}
    for name, parameter in learner.weights.trained().items():
        found[name] = parameter.detach().clone()
        found |= {f"{name}|{kind}": value.clone() for kind, value in learner.optimizer.state[parameter].items()}
    return found


@pytest.fixture(scope="module")
def states(tmp_path_factory):
    """The folder of the checkpoints of two processes, and the states that they hold."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return folder, together(2, begin, folder)[0]


@pytest.mark.parametrize("num_processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_a_checkpoint_loads_in_other_numbers_of_processes(states, num_processes, tmp_path):
    folder, (first, second) = states
    single = learner_of_one()
    single.load(folder / "step0")
    same(state_of(single), first, rtol=0, atol=0)
    single.update(make_examples(3, 1), 1e-3, OPTIONS)
    same(state_of(single), second, rtol=1e-4, atol=1e-5)
    single.save(tmp_path / "single")
    exact = {"rtol": 0, "atol": 0}
    for loaded, learned, others in together(num_processes, go_on, folder, tmp_path / "single"):
        same(loaded, first, **exact)
        # With the same number of processes not one bit differs.
        same(learned, second, **(exact if num_processes == 2 else {"rtol": 1e-4, "atol": 1e-5}))
        same(others, state_of(single), **exact)


def test_a_checkpoint_holds_no_pickle_and_is_checked(states):
    folder, _ = states
    kinds = {file.suffix for file in (folder / "step1").iterdir()}
    assert kinds == {".json", ".safetensors"}
    shard = sorted((folder / "step1").glob("*.safetensors"))[1]
    content = bytearray(shard.read_bytes())
    content[-5] ^= 1
    shard.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        learner_of_one().load(folder / "step1")


@pytest.mark.parametrize("content", ['{"kind": "shards"}', '{"kind": "shards", "sha256": {}, "state": 3}'])
def test_a_damaged_state_is_named(content, tmp_path):
    (tmp_path / "state.json").write_text(content)
    with pytest.raises(InputError, match=r"state\.json is damaged"):
        read_state(tmp_path)
