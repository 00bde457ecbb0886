"""What holds for everything that acts: numbered samples, no influence of neighbours, and refusal before sampling."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from pivotrl import Action, Message, Trajectory, Turn, Verdict, cut, sample_groups
from pivotrl.acting import Actor
from pivotrl.plugins.shapes import require_sampler, sampled
from pivotrl.policies.hf import Policy as HfPolicy
from pivotrl.policies.tabular import Policy as TabularPolicy
from pivotrl.protocols import InputError, Sampler, TurnTooLong
from pivotrl.protocols.tokens import Drawn, Generated
from pivotrl.records import SampleGroup, Sampling
from pivotrl.rendering import Renderer, prompt_hash
from pivotrl.samplers.scripted import Sampler as ScriptedSampler
from pivotrl.seeding import uniforms
from pivotrl.storage.record_files import RecordFile, read_records
from pivotrl.verifiers.exact import verify
from test_training import logs
from tiny import save_tiny_model

TURNS = cut(logs(3, 2))[0]
SAMPLING = Sampling(max_tokens=6, seed=5)
LONG = Turn(Trajectory(id="long", task_id="long", messages=(Message(role="user", content="x" * 600),)), 1)
CALL = '<tool_call>\n{"name": "look", "arguments": {}}\n</tool_call>'


class Urn:
    """A generator from outside the package: it draws one of a few texts."""

    identity = {"generator": "urn"}  # noqa: RUF012
    max_context = 300

    def __init__(self, renderer: Renderer, texts: Sequence[str], *, ends: bool = True) -> None:
        self.balls = [renderer.encode_text(text) + [renderer.end_id] * ends for text in texts]
        self.asked: list[tuple[Sequence[Sequence[int]], Sequence[str], frozenset[int]]] = []

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        keys: Sequence[str],
        num_samples: int,
        sampling: Sampling,
        stop_ids: frozenset[int],
        first: int = 0,
    ) -> Iterator[Generated]:
        self.asked.append((prompts, keys, stop_ids))
        for prompt, key in zip(prompts, keys, strict=True):
            drawn = []
            for number in range(first, first + num_samples):
                ball = self.balls[int(uniforms(sampling.seed, key, number, 1)[0] * len(self.balls))]
                ids = ball[: sampling.max_tokens]
                drawn.append(Drawn(ids, [-0.5] * len(ids), ids[-1] in stop_ids))
            yield Generated(drawn, len(prompt))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"), max_positions=300)


@pytest.fixture(scope="module")
def renderer(folder: Path) -> Renderer:
    return Renderer(AutoTokenizer.from_pretrained(folder))


KINDS: dict[str, Callable[[Path], Any]] = {
    "hf, split": lambda folder: HfPolicy(model=str(folder), lora_rank=4, device="cpu"),
    "hf, cache": lambda folder: HfPolicy(model=str(folder), lora_rank=0, device="cpu", executor="cache"),
    "hf, rows": lambda folder: HfPolicy(model=str(folder), lora_rank=0, device="cpu", executor="reference"),
    "hf, two at once": lambda folder: HfPolicy(model=str(folder), trainable=False, device="cpu", batch_rows=2),
    "reference of hf": lambda folder: HfPolicy(model=str(folder), lora_rank=4, device="cpu").reference,
    "tabular": lambda folder: TabularPolicy(seed=1),
    "scripted": lambda folder: ScriptedSampler(script={turn.id: list("abcde") for turn in TURNS}, otherwise="x"),
    "from outside": lambda folder: _urn(Renderer(AutoTokenizer.from_pretrained(folder))),
}


def _urn(renderer: Renderer) -> Actor:
    return Actor(renderer, Urn(renderer, ["a00", "a10", "a20", "b", "c", "d"]))


@pytest.fixture(scope="module", params=KINDS)
def sampler(request: pytest.FixtureRequest, folder: Path) -> Any:
    return KINDS[request.param](folder)


def assert_same(found: Sequence[Any], expected: Sequence[Any]) -> None:
    """The same samples; log-probabilities may be rounded otherwise in a batch of another shape."""
    assert [one.model_copy(update={"logprobs_T": ()}) for one in found] == [
        one.model_copy(update={"logprobs_T": ()}) for one in expected
    ]
    for one, other in zip(found, expected, strict=True):
        assert one.logprobs_T == pytest.approx(other.logprobs_T, abs=1e-4)


def assert_numbered(sampler: Sampler) -> None:
    whole = list(sampler.sample(TURNS, 7, SAMPLING))
    assert any(len({one.token_ids_T for one in group.completions_G}) > 2 for group in whole)
    for first, number in ((0, 3), (3, 4), (6, 1)):
        part = list(sampler.sample(TURNS, number, SAMPLING, first=first))
        assert [(group.turn_id, group.first) for group in part] == [(turn.id, first) for turn in TURNS]
        for found, expected in zip(part, whole, strict=True):
            assert_same(found.completions_G, expected.completions_G[first : first + number])
            assert found.prompt_sha256 == expected.prompt_sha256


def test_a_later_helping_is_the_rest_of_a_larger_draw(sampler: Any) -> None:
    require_sampler(sampler)
    assert_numbered(sampler)


def test_a_sampler_that_begins_anew_is_caught() -> None:
    class Forgetful(TabularPolicy):
        def sample(self, turns: Any, num_samples: int, sampling: Sampling, first: int = 0) -> Iterator[SampleGroup]:
            for group in super().sample(turns, num_samples, sampling):
                yield group.model_copy(update={"first": first})

    with pytest.raises(AssertionError):
        assert_numbered(Forgetful(seed=1))


def test_neither_order_nor_neighbours_choose_a_sample(sampler: Any) -> None:
    together = {group.turn_id: group for group in sampler.sample(TURNS, 4, SAMPLING)}
    backwards = list(sampler.sample(TURNS[::-1], 4, SAMPLING))
    alone = [group for turn in TURNS for group in sampler.sample([turn], 2, SAMPLING)]
    assert [group.turn_id for group in backwards] == [turn.id for turn in TURNS[::-1]]
    for group in (*backwards, *alone):
        assert_same(group.completions_G, together[group.turn_id].completions_G[: len(group.completions_G)])


def test_a_turn_that_does_not_fit_is_refused_before_anything_is_sampled(sampler: Any) -> None:
    turns = [TURNS[0], LONG]
    if sampler.fits(LONG, 6):  # it knows no limit, so it acts
        assert len(list(sampler.sample(turns, 1, SAMPLING))) == 2
        return
    assert sampler.fits(TURNS[0], 6)
    forwards: list[None] = []
    hook = None
    if isinstance(sampler.generator, Urn):
        sampler.generator.asked.clear()
    else:
        model = sampler.generator._trained
        hook = model.get_decoder().register_forward_pre_hook(lambda *_: forwards.append(None))
    with pytest.raises(TurnTooLong, match="exceed the model's context of 300"):
        next(iter(sampler.sample(turns, 1, SAMPLING)))
    assert not forwards and not getattr(sampler.generator, "asked", ())
    if hook is not None:
        next(iter(sampler.sample(turns[:1], 1, SAMPLING)))
        assert forwards  # the hook does see sampling
        hook.remove()


def test_the_context_is_filled_to_its_last_token(renderer: Renderer) -> None:
    actor = _urn(renderer)
    room = 300 - len(renderer.prompt(TURNS[0]))
    assert actor.fits(TURNS[0], room) and not actor.fits(TURNS[0], room + 1)
    assert list(actor.sample(TURNS[:1], 1, Sampling(max_tokens=room)))
    with pytest.raises(TurnTooLong):
        list(actor.sample(TURNS[:1], 1, Sampling(max_tokens=room + 1)))


# --- a generator from outside -----------------------------------------------------------------------------------------


def test_a_generator_from_outside_acts_and_is_judged(renderer: Renderer) -> None:
    urn = Urn(renderer, ["a00", "wrong"])
    groups = list(sample_groups(TURNS[:1], Actor(renderer, urn), verify, 12, SAMPLING))
    ((prompts, keys, stop_ids),) = urn.asked
    assert (prompts, keys, stop_ids) == ([renderer.prompt(TURNS[0])], [TURNS[0].id], renderer.stop_ids)
    texts = [one.text for one in groups[0].completions_G]
    assert set(texts) == {"a00", "wrong"}
    assert groups[0].rewards == [float(text == "a00") for text in texts]
    assert groups[0].prompt_sha256 == prompt_hash(renderer.prompt(TURNS[0]))
    assert groups[0].num_prompt_tokens == groups[0].num_prefilled_tokens == len(renderer.prompt(TURNS[0]))
    first = groups[0].completions_G[0]
    assert first.action == Action(content=first.text)
    assert first.token_ids_T == (*renderer.encode_text(first.text), renderer.end_id)
    assert first.logprobs_T == (-0.5,) * len(first.token_ids_T)


def test_what_is_drawn_becomes_an_action_a_parse_error_or_a_cut(renderer: Renderer) -> None:
    def act(text: str, **options: Any) -> Any:
        (group,) = Actor(renderer, Urn(renderer, [text], **options)).sample(TURNS[:1], 1, Sampling(max_tokens=90))
        return group.completions_G[0]

    call = act(CALL)
    assert (call.action.tool_calls[0].name, call.finish_reason, call.parse_error) == ("look", "stop", None)
    half = act(CALL[:-20])
    assert half.action == Action() and half.finish_reason == "stop" and half.parse_error
    endless = act(CALL, ends=False)
    assert (endless.action, endless.finish_reason, endless.parse_error) == (Action(), "length", "truncated")


def test_an_actor_is_known_by_what_draws_and_by_what_writes(renderer: Renderer, folder: Path) -> None:
    ours, policy = _urn(renderer), HfPolicy(model=str(folder), trainable=False, device="cpu")
    assert ours.identity == {"generator": "urn", **renderer.identity, "stop_ids": sorted(renderer.stop_ids)}
    shared = {**renderer.identity, "stop_ids": sorted(renderer.stop_ids)}
    assert {name: policy.identity[name] for name in shared} == shared
    assert policy.identity != ours.identity
    turn = TURNS[0]
    assert ours.encode_action(turn, turn.expected_action) == policy.encode_action(turn, turn.expected_action)


# --- numbered samples in the rest of the house ------------------------------------------------------------------------


class Once:
    """A sampler written before samples had numbers."""

    identity: dict[str, Any] = {}  # noqa: RUF012

    def fits(self, turn: Turn, max_tokens: int) -> bool:
        return True

    def sample(self, turns: Sequence[Turn], num_samples: int, sampling: Sampling) -> Iterator[SampleGroup]:
        return TabularPolicy(seed=1).sample(turns, num_samples, sampling)


def test_a_sampler_without_numbers_serves_whoever_asks_for_the_first_ones() -> None:
    once: Any = Once()
    require_sampler(once)
    assert [group.first for group in sampled(once, TURNS, 3, SAMPLING)] == [0] * len(TURNS)
    assert len(list(sample_groups(TURNS, once, lambda *_: Verdict.passed(), 3, SAMPLING))) == len(TURNS)
    with pytest.raises(InputError, match="fails in sample"):
        list(sampled(once, TURNS, 3, SAMPLING, first=3))


def test_samples_of_other_numbers_than_were_asked_for_are_refused() -> None:
    class Stuck(TabularPolicy):
        def sample(self, turns: Any, num_samples: int, sampling: Sampling, first: int = 0) -> Iterator[SampleGroup]:
            return super().sample(turns, num_samples, sampling)

    with pytest.raises(InputError, match="samples from number 0 instead of 4"):
        list(sampled(Stuck(seed=1), TURNS, 3, SAMPLING, first=4))
    assert [group.first for group in sampled(TabularPolicy(seed=1), TURNS, 3, SAMPLING, first=4)] == [4] * len(TURNS)


def test_two_helpings_of_a_turn_are_kept_side_by_side(tmp_path: Path) -> None:
    policy, file = TabularPolicy(seed=1), tmp_path / "groups.jsonl"
    helpings = [next(policy.sample(TURNS[:1], 2, SAMPLING, first=first)) for first in (0, 2)]
    RecordFile(file, SampleGroup, key=lambda group: group.key).append(helpings)
    assert list(read_records(file, SampleGroup)) == helpings
    assert [group.key for group in helpings] == [TURNS[0].id, f"{TURNS[0].id}~2"]
    old = helpings[0].model_dump_json(exclude={"first"})
    assert SampleGroup.model_validate_json(old) == helpings[0]
