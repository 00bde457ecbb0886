"""Every architecture of tests/architectures.py works as expected or is refused in one sentence, and nothing else.

Run alone: python -m pytest tests/test_architectures.py
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoConfig

from architectures import ARCHITECTURES, save
from pivotrl import Message, Trajectory, Turn
from pivotrl.engine.configuration import language_model_class
from pivotrl.policies.hf import Policy
from pivotrl.protocols import InputError, TrainingGroup, UpdateOptions
from pivotrl.records import SampleGroup, Sampling

MODES = {
    "lora": {"lora_rank": 2},
    "lora, frozen": {"lora_rank": 2, "frozen_layers": 1},
    "full": {"lora_rank": 0},
    "full, frozen": {"lora_rank": 0, "frozen_layers": 1},
}
WORKING = [name for name, each in ARCHITECTURES.items() if not each.refused]
OFTEN = ("llama", "gpt2", "gemma3")
TRIED = [
    pytest.param(
        name,
        mode,
        marks=[pytest.mark.slow] if ARCHITECTURES[name].rare or (mode == "lora, frozen" and name not in OFTEN) else [],
    )
    for name in WORKING
    for mode in MODES
]
TURN = Turn(
    Trajectory(id="t", task_id="t", messages=(Message(role="user", content="hi"), Message(role="assistant"))), 1
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return functools.cache(lambda name: save(name, tmp_path_factory.mktemp("model") / "model"))


def draw(policy: Policy, seed: int = 0) -> SampleGroup:
    assert policy.fits(TURN, 6)
    (group,) = policy.sample([TURN], 2, Sampling(max_tokens=6, seed=seed))
    return group


def update(policy: Policy, group: SampleGroup) -> dict[str, float]:
    groups = [TrainingGroup(TURN, list(group.completions_G), [1.0, -1.0], group.prompt_sha256)]
    return policy.update(groups, 1e-2, UpdateOptions())


def plain(place: Path) -> Any:
    """As a stranger loads it."""
    kind = language_model_class(place, AutoConfig.from_pretrained(place), str(place))
    return kind.from_pretrained(place).eval()


@torch.no_grad()
def scored(model: Any, policy: Policy, group: SampleGroup) -> list[float]:
    """Log-probabilities of the samples, one plain row each."""
    found: list[float] = []
    prompt = list(policy.renderer.prompt(TURN))
    for completion in group.completions_G:
        row = torch.tensor([[*prompt, *completion.token_ids_T]])
        logprobs = model(input_ids=row, use_cache=False).logits[0].float().log_softmax(-1)
        found += logprobs[len(prompt) - 1 : -1].gather(-1, row[0, len(prompt) :, None])[:, 0].tolist()
    return found


def drawn(group: SampleGroup) -> list[float]:
    return [value for completion in group.completions_G for value in completion.logprobs_T]


@pytest.mark.parametrize(("name", "mode"), TRIED)
def test_an_architecture_is_sampled_and_trained(name: str, mode: str, folder: Callable[[str], Path]) -> None:
    expected = ARCHITECTURES[name]
    policy = Policy(model=str(folder(name)), device="cpu", **MODES[mode])  # type: ignore[arg-type]
    assert policy.learner.executor.name == expected.sharing
    assert policy.generator.way == (expected.sampling or expected.sharing)
    group = draw(policy)
    assert drawn(group) == pytest.approx(scored(plain(folder(name)), policy, group), abs=1e-3)
    before = {key: parameter.detach().clone() for key, parameter in policy.model.named_parameters()}
    metrics = update(policy, group)
    assert math.isfinite(metrics["loss/total"]) and metrics["gradient/norm"] > 0 and not metrics["update/skipped"]
    trained = {key for key, parameter in policy.model.named_parameters() if parameter.requires_grad}
    changed = {key for key, parameter in policy.model.named_parameters() if not torch.equal(parameter, before[key])}
    assert changed <= trained
    still = {key for key in trained - changed if "lora_A" not in key}  # it moves once B is not zero
    assert {key for key in still if not any(part in key for part in expected.untrained)} == set()
    assert not any(part in key for key in trained for part in ("vision", "visual", "projector", "audio"))
    if "frozen" in mode:
        assert not any(
            f".{part}." in key for key in trained for part in ("layers.0", "h.0", "blocks.0", "embed_tokens")
        )
    # An adapter that is folded in while sampling computes as it does unmerged, and comes out bit for bit.
    update(policy, group)
    kept = {key: parameter.detach().clone() for key, parameter in policy.model.named_parameters()}
    again = draw(policy, seed=1)
    assert drawn(again) == pytest.approx(scored(policy.model, policy, again), abs=2e-3)
    assert all(torch.equal(parameter, kept[key]) for key, parameter in policy.model.named_parameters())


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name not in WORKING])
def test_an_architecture_is_refused_in_one_sentence(name: str, folder: Callable[[str], Path]) -> None:
    for mode in MODES.values():
        with pytest.raises(InputError, match=ARCHITECTURES[name].refused) as refusal:
            Policy(model=str(folder(name)), device="cpu", **mode)  # type: ignore[arg-type]
        assert repr(name) in str(refusal.value) and "give a" in str(refusal.value).lower()
        assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize("mode", ["lora", "full"])
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in OFTEN else [pytest.mark.slow]) for name in WORKING],
)
def test_an_architecture_is_kept_and_handed_over(
    name: str, mode: str, folder: Callable[[str], Path], tmp_path: Path
) -> None:
    options: dict[str, Any] = {"model": str(folder(name)), "device": "cpu", **MODES[mode]}
    policy, other = Policy(**options), Policy(**options)
    group = draw(policy)
    update(policy, group)
    policy.save(tmp_path / "checkpoint")
    other.load(tmp_path / "checkpoint")
    assert scored(other.model, policy, group) == scored(policy.model, policy, group)
    policy.export(tmp_path / "export")
    if mode == "lora":
        exported = PeftModel.from_pretrained(plain(folder(name)), tmp_path / "export").eval()
        assert not any(part in key for key in exported.state_dict() if "lora" in key for part in ("vision", "visual"))
    else:
        exported = plain(tmp_path / "export")
    assert scored(exported, policy, group) == pytest.approx(scored(policy.model, policy, group), abs=1e-3)


def test_at_least_twenty_architectures_are_tried_each_time() -> None:
    assert sum(not each.rare and not each.refused for each in ARCHITECTURES.values()) >= 20
