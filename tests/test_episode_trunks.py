"""Episodes whose keys and values are kept from turn to turn: the same samples, for less work, in bounded memory."""

from __future__ import annotations

import contextlib
import random
from itertools import chain
from typing import Any

import pytest
import torch

from live_memory import LiveMemory
from pivotrl.engine import episode_trunks
from pivotrl.engine.episode_trunks import EpisodeTrunks, checksums
from pivotrl.engine.sampling import draw
from pivotrl.engine.split_attention import ForestPass
from pivotrl.episodes import play_episodes
from pivotrl.policies.hf import Policy
from pivotrl.protocols import Observation, TrainingGroup, UpdateOptions
from pivotrl.records import Message, Sampling
from tape import tape
from tiny import save_tiny_model
from tiny_models import CACHE, SPLIT, VOCABULARY, make_model

STOP = frozenset({2, 3, 4, 5})
AMPLE = 1 << 30


def tokens(seed, length):
    generator = random.Random(seed)
    return [generator.randrange(6, VOCABULARY) for _ in range(length)]


class Game:
    """Episodes of token ids: what was seen and sampled so far makes the next prompt."""

    def __init__(self, num_episodes=4, num_turns=4, prompt=None, same_task=False):
        self.history: list[list[list[int]]] = [
            [tokens(0 if same_task else number, 12 + 5 * (0 if same_task else number))]
            for number in range(num_episodes)
        ]
        self._num_turns, self._prompt = num_turns, prompt or (lambda parts: list(chain(*parts)))
        self.drawn: list[list[Any]] = []
        self.prefilled: list[list[int]] = []
        self.prompts: list[list[list[int]]] = []

    def play(self, model, trunks=None, between=lambda turn: None, num_turns_of=None, **options):
        options = {"executor": "split", "capture": None, "max_rows": 64, "max_tokens": 8192} | options
        sampling = Sampling(temperature=options.pop("temperature", 1.0), max_tokens=options.pop("length", 9), seed=3)
        for turn in range(self._num_turns):
            playing = [i for i in range(len(self.history)) if num_turns_of is None or turn < num_turns_of[i]]
            prompts = [self._prompt(self.history[i]) for i in playing]
            ids = [f"episode-a/b~{i}#{2 * turn + 1}" for i in playing]
            groups = draw(model, prompts, ids, 1, sampling, STOP, trunks=trunks, **options)
            self.drawn.append([group[0] for group in groups])
            self.prompts.append(prompts)
            if trunks is not None and trunks.num_prefilled is not None:
                self.prefilled.append(trunks.num_prefilled)
            for i, (one,) in zip(playing, groups, strict=True):
                self.history[i] += [one.token_ids_T, tokens(100 * turn + i, 7 + 3 * i)]
            between(turn)
        return self


def kept(game, model, max_bytes=AMPLE, **options):
    trunks = EpisodeTrunks(max_bytes)
    with trunks.keeping():
        return game.play(model, trunks, **options)


def assert_same(found, expected, tolerance=1e-4):
    assert found.prompts == expected.prompts
    for one, other in zip(chain(*found.drawn), chain(*expected.drawn), strict=True):
        assert (one.token_ids_T, one.stopped) == (other.token_ids_T, other.stopped)
        assert one.logprobs_T == pytest.approx(other.logprobs_T, abs=tolerance)


def gap(found, expected):
    """Largest difference of two first log-probabilities of a turn."""
    return max(
        abs(one.logprobs_T[0] - other.logprobs_T[0])
        for one, other in zip(chain(*found.drawn), chain(*expected.drawn), strict=True)
    )


@pytest.fixture(scope="module")
def llama():
    return make_model("llama")


# --- the same samples -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("temperature", "capture"), [(0.0, None), (1.0, None), (1.0, tape)])
@pytest.mark.parametrize("family", SPLIT)
def test_a_kept_episode_draws_the_same(family, temperature, capture):
    """Also from recorded steps. Branches stop at different places, so they leave at different steps."""
    model, options = make_model(family), {"temperature": temperature, "length": 40, "capture": capture}
    found, expected = kept(Game(), model, **options), Game().play(model, **options)
    assert_same(found, expected)
    lengths = {len(one.token_ids_T) for one in chain(*found.drawn)}
    assert temperature == 0.0 or len(lengths) > 2


@pytest.mark.parametrize("family", ["llama", "mistral, beyond its window"])
def test_it_is_exact_in_double_precision(family):
    model = make_model(family, torch.float64)
    assert_same(kept(Game(num_turns=5), model), Game(num_turns=5).play(model), 1e-6)


def test_only_what_is_new_is_computed(llama):
    """A turn computes the observation and the one sampled token that was never put through the model."""
    game = kept(Game(num_turns=5), llama)
    assert game.prefilled[0] == [len(prompt) for prompt in game.prompts[0]]
    for turn in range(1, 5):
        assert game.prefilled[turn] == [7 + 3 * i + 1 for i in range(4)]


def test_the_count_is_what_went_through_the_model(llama):
    rows: list[int] = []

    def count(module, args, kwargs):
        if isinstance(kwargs["forest_pass"], ForestPass):
            rows.append(kwargs["input_ids"].numel())

    hook = llama.get_decoder().register_forward_pre_hook(count, with_kwargs=True)
    game = kept(Game(same_task=True), llama)
    hook.remove()
    assert rows == [sum(counts) for counts in game.prefilled]


def sliding(parts):
    """The first message and the last three parts."""
    return list(chain(parts[0], *parts[max(1, len(parts) - 3) :]))


def without_old_thoughts(parts):
    """Of what was sampled earlier than in the last turn, every second token only."""
    return list(chain(*(part[::2] if i % 2 and i < len(parts) - 2 else part for i, part in enumerate(parts))))


@pytest.mark.parametrize("prompt", [sliding, without_old_thoughts, lambda parts: parts[-1] or parts[0]])
def test_prompts_that_do_not_go_on_as_they_began_are_cut_where_they_differ(llama, prompt):
    found, expected = kept(Game(num_turns=5, prompt=prompt), llama), Game(num_turns=5, prompt=prompt).play(llama)
    assert_same(found, expected)
    for turn in range(1, 5):
        for i, (now, before) in enumerate(zip(found.prompts[turn], found.prompts[turn - 1], strict=True)):
            cached = [*before, *found.drawn[turn - 1][i].token_ids_T[:-1]]
            agreed = next((k for k, (a, b) in enumerate(zip(now, cached, strict=False)) if a != b), len(cached))
            # Of what differs from the start, a token or two may be another episode's too.
            assert 0 <= len(now) - min(agreed, len(now) - 1) - found.prefilled[turn][i] <= 2


def test_a_prompt_that_was_seen_whole_still_gets_its_last_hidden_state(llama):
    """The same prompt again, and one that another episode has been through."""
    trunks, sampling = EpisodeTrunks(AMPLE), Sampling(max_tokens=5)
    first, longer = tokens(1, 20), tokens(1, 20) + tokens(2, 9)
    with trunks.keeping():
        draw(llama, [longer], ["a#1"], 1, sampling, STOP, trunks=trunks)
        found = draw(llama, [first, longer], ["b#1", "a#1"], 1, sampling, STOP, trunks=trunks)
    expected = draw(llama, [first, longer], ["b#1", "a#1"], 1, sampling, STOP)
    for (one,), (other,) in zip(found, expected, strict=True):
        assert one.token_ids_T == other.token_ids_T
        assert one.logprobs_T == pytest.approx(other.logprobs_T, abs=1e-4)


def test_two_episodes_of_one_task_keep_apart_and_share_their_beginning(llama):
    found, expected = kept(Game(same_task=True), llama), Game(same_task=True).play(llama)
    assert_same(found, expected)
    assert sum(found.prefilled[0]) == 12  # one task, one prompt
    assert len({tuple(one.token_ids_T) for one in found.drawn[0]}) > 1


def test_an_episode_that_ends_early_leaves_the_others_as_they_are(llama):
    ends = [4, 1, 3, 2]
    found = kept(Game(), llama, num_turns_of=ends)
    assert_same(found, Game().play(llama, num_turns_of=ends))
    assert [len(turn) for turn in found.drawn] == [4, 3, 2, 1]
    assert found.prefilled[3] == [8]


@pytest.mark.parametrize("options", [{"max_tokens": 16}, {"max_rows": 2}])
def test_batches_do_not_matter(llama, options):
    assert_same(kept(Game(), llama, **options), Game().play(llama))


def test_known_tokens_count_as_nothing_when_a_call_is_cut_into_batches(llama):
    """Four prompts of together 233 tokens bring 50 new ones, and decode together."""
    widest: list[int] = []

    def look(module, args, kwargs):
        if not isinstance(kwargs["forest_pass"], ForestPass):
            widest.append(kwargs["input_ids"].numel())

    hook = llama.get_decoder().register_forward_pre_hook(look, with_kwargs=True)
    game = kept(Game(num_turns=3), llama, max_tokens=60)
    hook.remove()
    assert max(widest) == 4 and sum(map(len, game.prompts[2])) > 180


@pytest.mark.parametrize(
    ("family", "executor"), [("llama", "cache"), ("llama", "reference"), (next(iter(CACHE)), "cache")]
)
def test_executors_without_a_trunk_do_without(family, executor):
    model = make_model(family)
    found = kept(Game(num_turns=2), model, executor=executor)
    assert_same(found, Game(num_turns=2).play(model, executor=executor))
    assert not found.prefilled


def test_of_several_samples_the_first_goes_on(llama):
    trunks, sampling = EpisodeTrunks(AMPLE), Sampling(max_tokens=6)
    with trunks.keeping():
        (group,) = draw(llama, [tokens(1, 20)], ["a#1"], 3, sampling, frozenset(), trunks=trunks)
        draw(llama, [tokens(1, 20) + group[0].token_ids_T], ["a#3"], 1, sampling, frozenset(), trunks=trunks)
    assert trunks.num_prefilled == [1]


# --- memory ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.1, 0.4, 0.7, 1.0])
def test_the_bound_holds_for_the_tensors_that_are_kept(llama, share):
    """Counted by what is alive after each turn; what has no room is prefilled again."""
    expected = Game(num_turns=5).play(llama)
    most = max(sum(map(len, prompts)) for prompts in expected.prompts) * 2 * 2 * 2 * 8 * 4  # 2 layers, 2 heads of 8
    bound = int(share * most)
    trunks, memory, alive = EpisodeTrunks(bound), LiveMemory(), []
    with trunks.keeping(), memory:
        found = Game(num_turns=5).play(llama, trunks, between=lambda turn: alive.append((memory.now, trunks.num_bytes)))
    assert_same(found, expected)
    for now, counted in alive:
        assert counted <= bound
        assert counted <= now < counted + 1000  # small change: a few numbers beside the keys and values
    assert (max(counted for _, counted in alive) > 0) == (share > 0)
    new, whole = sum(map(sum, found.prefilled)), sum(sum(map(len, prompts)) for prompts in found.prompts)
    assert new == whole if share == 0 else new < whole


def test_the_longest_unused_leave_first(llama):
    """A round of episodes must not evict each of them just before its turn."""
    trunks, sampling = EpisodeTrunks(AMPLE), Sampling(max_tokens=3)

    def see(*names):
        draw(
            llama,
            [tokens(name, 30) for name in names],
            [f"{name}#1" for name in names],
            1,
            sampling,
            frozenset(),
            trunks=trunks,
        )
        return trunks.num_prefilled

    with trunks.keeping():
        see("a")
        trunks.max_bytes = 2 * trunks.num_bytes
        see("b")
        assert see("a") == [1]
        see("c")  # in place of b
        assert see("a", "c") == [1, 1]
        assert see("b") == [30]
        see("a", "b", "c")
        assert sorted(see("a", "b", "c")) == [1, 1, 30]


def test_nothing_is_kept_outside(llama):
    trunks = EpisodeTrunks(AMPLE)
    Game(num_turns=1).play(llama, trunks)
    assert trunks.num_bytes == 0 and trunks.num_prefilled is None
    with trunks.keeping():
        with trunks.keeping():
            Game(num_turns=1).play(llama, trunks)
        assert trunks.num_bytes > 0  # somebody is still inside
    assert trunks.num_bytes == 0


@pytest.mark.parametrize("capture", [None, tape])
@pytest.mark.parametrize("kind", ["prefill", "decode"])
def test_when_memory_runs_out_the_store_goes_first(llama, kind, capture):
    expected = Game().play(llama, capture=capture)
    trunks = EpisodeTrunks(AMPLE)

    def check(module, args, kwargs):
        """No room as long as anything is kept beside."""
        if trunks.num_bytes and isinstance(kwargs["forest_pass"], ForestPass) == (kind == "prefill"):
            raise torch.OutOfMemoryError("out of memory")

    hook = llama.get_decoder().register_forward_pre_hook(check, with_kwargs=True)
    try:
        with trunks.keeping():
            found = Game().play(llama, trunks, capture=capture)
    finally:
        hook.remove()
    assert_same(found, expected)
    assert trunks.max_bytes < AMPLE


# --- weights --------------------------------------------------------------------------------------------------------


def changed_after(model, turn):
    """Plays on other weights from this turn on."""

    def change(now):
        if now == turn:
            with torch.no_grad():
                model.get_parameter("model.layers.0.self_attn.k_proj.weight").mul_(1.5)

    return change


def test_other_weights_never_read_what_is_kept():
    games = []
    for play in (kept, lambda game, model, **options: game.play(model, **options)):
        model = make_model("llama")
        games.append(play(Game(), model, between=changed_after(model, 1), temperature=0.0))
    assert_same(*games)
    found = games[0]
    assert found.prefilled[2] == [len(prompt) for prompt in found.prompts[2]]
    assert sum(found.prefilled[3]) < sum(map(len, found.prompts[3])) / 2  # and are kept again from there


def test_a_trunk_of_other_weights_would_be_seen(monkeypatch):
    """The twin of the test before: without the comparison the numbers are wrong."""
    monkeypatch.setattr(episode_trunks, "checksums", lambda model: (1,))
    games = []
    for play in (kept, lambda game, model, **options: game.play(model, **options)):
        model = make_model("llama")
        games.append(play(Game(num_turns=3), model, between=changed_after(model, 1)))
    assert gap(*games) > 0.01


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_smallest_change_of_one_weight_is_seen(dtype):
    model = make_model("llama", dtype)
    before = checksums(model)
    assert checksums(model) == before
    weight = model.get_parameter("model.layers.1.mlp.up_proj.weight")
    with torch.no_grad():
        weight[3, 5] = torch.nextafter(weight[3, 5], torch.tensor(torch.inf, dtype=dtype))
    assert checksums(model) != before


def test_weights_of_odd_sizes_and_places_are_summed():
    whole = torch.arange(12, dtype=torch.float32)

    class Odd(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a = torch.nn.Parameter(whole[1:4])
            self.b = torch.nn.Parameter(whole[1:5])
            self.c = torch.nn.Parameter(torch.arange(6.0).view(2, 3).T)

    before = checksums(Odd())
    whole[4] += 1
    assert [a == b for a, b in zip(before, checksums(Odd()), strict=True)] == [True, False, True]


# --- a policy that plays --------------------------------------------------------------------------------------------


class Scripted:
    """Answers with a text of its own and ends after some turns."""

    def __init__(self, number, num_turns):
        self.tags, self.context_window = {}, None
        self.task_id, self._number, self._left = f"task{number}", number, num_turns

    def reset(self):
        return (Message(role="system", content="Play."), Message(role="user", content=f"Game {self._number}."))

    def step(self, action):
        self._left -= 1
        answer = Message(role="user", content=f"{self._left} to go. " + "la " * 3 * (self._number + 1))
        return Observation((answer,), 1.0, done=self._left == 0, reason="over" if self._left == 0 else "")


class Seen:
    """A sampler that remembers its turns and groups; one that keeps nothing unless ``keeping``."""

    def __init__(self, sampler, keeping, between=lambda: None):
        self._sampler, self._between = sampler, between
        self.turns, self.groups = [], []
        self.identity, self.fits = sampler.identity, sampler.fits
        if keeping:
            self.keeping = sampler.keeping

    def sample(self, turns, num_samples, sampling):
        if self.groups:
            self._between()
        self.turns += turns
        for group in self._sampler.sample(turns, num_samples, sampling):
            self.groups.append(group)
            yield group


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(save_tiny_model(tmp_path_factory.mktemp("tiny")))


def played(sampler, keeping, between=lambda: None):
    seen = Seen(sampler, keeping, between)
    environments = [Scripted(number, turns) for number, turns in enumerate((4, 2, 3))]
    results = list(play_episodes(environments, seen, Sampling(max_tokens=12, seed=1)))
    return sorted(results, key=lambda result: result.task_id), seen


def prefilled(seen):
    return sum(group.num_prefilled_tokens for group in seen.groups)


def assert_same_play(found, expected):
    whole, expected_whole = (
        [result.model_dump(exclude={"turns": {"__all__": {"logprobs_T"}}}) for result in results]
        for results in (found[0], expected[0])
    )
    assert whole == expected_whole
    for group, other in zip(found[1].groups, expected[1].groups, strict=True):
        one, same = group.completions_G[0], other.completions_G[0]
        assert (group.turn_id, one.token_ids_T) == (other.turn_id, same.token_ids_T)
        assert one.logprobs_T == pytest.approx(same.logprobs_T, abs=1e-4)


def update(policy, seen):
    group = TrainingGroup(seen.turns[0], seen.groups[0].completions_G, [1.0])
    policy.update([group], 0.02, UpdateOptions())


@pytest.mark.parametrize("lora_rank", [0, 4])
def test_a_policy_plays_the_same_episodes_for_less(folder, lora_rank):
    """Before an update and after; its reference too."""
    policy = Policy(model=folder, lora_rank=lora_rank, dtype="float32", device="cpu")
    for _ in range(2):
        for sampler in (policy, policy.reference):
            found, expected = played(sampler, True), played(sampler, False)
            assert_same_play(found, expected)
            assert prefilled(found[1]) < 0.7 * prefilled(expected[1])
            assert policy.generator.trunks.num_bytes == 0
        update(policy, found[1])


@pytest.mark.parametrize("lora_rank", [0, 4])
def test_an_update_a_checkpoint_and_the_reference_read_nothing_of_each_other(folder, lora_rank, tmp_path):
    """All while episodes are kept: what is played next is what a policy of those weights plays that kept nothing."""
    policy = Policy(model=folder, lora_rank=lora_rank, dtype="float32", device="cpu")
    policy.save(tmp_path / "start")
    plays = []
    for keeping in (policy.keeping, contextlib.nullcontext):
        policy.load(tmp_path / "start")
        with keeping():
            kept_too = keeping == policy.keeping
            games = [played(policy, kept_too)]
            update(policy, games[0][1])
            games += [played(policy, kept_too), played(policy.reference, kept_too)]
            policy.load(tmp_path / "start")
            games.append(played(policy, kept_too))
        plays.append(games)
    for found, expected in zip(*plays, strict=True):
        assert_same_play(found, expected)
    first, after, reference, again = plays[0]
    assert first[1].groups[0].completions_G != after[1].groups[0].completions_G  # so the update did something
    assert_same_play(again, first)
    assert_same_play(reference, first)


def test_an_update_in_the_middle_of_episodes_is_noticed(folder, monkeypatch):
    """With its twin: a store that is not told apart by weights gives other numbers."""
    plays = []
    for keeping, blind in ((False, False), (True, False), (True, True)):
        policy = Policy(model=folder, lora_rank=4, dtype="float32", device="cpu")
        if blind:
            monkeypatch.setattr(episode_trunks, "checksums", lambda model: (1,))
        _, before = played(policy, False)
        plays.append(played(policy, keeping, lambda: update(policy, before)))  # noqa: B023  # called at once
    plain, kept_play, blind_play = plays
    assert_same_play(kept_play, plain)
    with pytest.raises(AssertionError):
        assert_same_play(blind_play, plain)
