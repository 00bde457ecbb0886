"""The policies and samplers that tests and dry runs use: the softmax table, the script, and their seeds."""

import dataclasses
import json
import math
import sys

import numpy as np
import pytest

from pivotrl.plugins import load
from pivotrl.policies.tabular import Policy
from pivotrl.profiling import ProfileOptions, profile
from pivotrl.protocols import InputError, TrainingGroup, Turn, UpdateOptions
from pivotrl.records import Action, Message, Sampling, ToolCall, Trajectory
from pivotrl.rendering import action_text
from pivotrl.samplers.scripted import Sampler
from pivotrl.seeding import derive_seed, uniforms
from pivotrl.turns import cut
from pivotrl.verifiers.exact import verify

CALL = ToolCall(name="get_weather", arguments='{"city": "Paris"}')
TRAJECTORY = Trajectory(
    id="log",
    task_id="task",
    messages=(
        Message(role="user", content="weather?"),
        Message(role="assistant", tool_calls=(CALL,)),
        Message(role="tool", content="rain"),
        Message(role="assistant", content="It rains."),
        Message(role="user", content="thanks"),
        Message(role="assistant", content="It rains."),
    ),
)
TURNS = [Turn(TRAJECTORY, index) for index in (1, 3, 5)]


def numbered_turns(count):
    messages = [Message(role="user", content="go")]
    for number in range(count):
        messages += [Message(role="assistant", content=f"move {number}"), Message(role="user", content="ok")]
    trajectory = Trajectory(id="moves", task_id="moves", messages=tuple(messages))
    return [Turn(trajectory, 2 * number + 1) for number in range(count)]


def groups_of(policy, turns, num_samples=8, seed=0, temperature=1.0):
    """Training groups with advantage 1 for the expected action and -0.5 for others."""
    sampled = policy.sample(turns, num_samples, Sampling(seed=seed, temperature=temperature))
    return [
        TrainingGroup(
            turn=turn,
            completions_G=group.completions_G,
            advantages_G=[1.0 if c.action == turn.expected_action else -0.5 for c in group.completions_G],
            prompt_sha256=group.prompt_sha256,
        )
        for turn, group in zip(turns, sampled, strict=True)
    ]


# --- seeds ------------------------------------------------------------------------------------------------------------


def test_uniforms_are_fixed_by_seed_turn_and_sample():
    assert uniforms(0, "log#1", 0, 3) == pytest.approx([0.04783516, 0.22533759, 0.61330366], abs=5e-9)
    assert (uniforms(0, "log#1", 0, 9)[:3] == uniforms(0, "log#1", 0, 3)).all()
    different = {uniforms(s, t, i, 1)[0] for s in (0, 1) for t in ("a#1", "a#11") for i in (0, 1)}
    assert len(different) == 8
    many = np.concatenate([uniforms(3, "t", index, 50) for index in range(200)])
    assert abs(many.mean() - 0.5) < 0.02
    assert 0.0 <= many.min() < many.max() < 1.0


def test_derived_seeds_differ_by_every_part_and_never_change():
    parts = [(), ("a",), ("a", "b"), ("ab",), ("1",), (1,), ("a", 1), ("a,1",), ("b", "a")]
    assert len({derive_seed(0, *part) for part in parts} | {derive_seed(1, "a")}) == len(parts) + 1
    assert all(0 <= derive_seed(7, step) < 2**63 for step in range(100))
    assert derive_seed(0, "train", 3) == 6636830909520140580


# --- the table --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_alternatives", [1, 2, 5])
def test_a_menu_holds_the_expected_action_and_different_others(num_alternatives):
    policy = Policy(num_alternatives=num_alternatives)
    for turn in TURNS:
        menu = policy.menu(turn)
        assert menu[0] == turn.expected_action
        assert len({action_text(action) for action in menu}) == len(menu) == num_alternatives + 1
    assert policy.menu(TURNS[0])[1] == TURNS[1].expected_action  # the nearest other turn
    still_to_play = Turn(TRAJECTORY, len(TRAJECTORY.messages))
    assert len(policy.menu(still_to_play)) == num_alternatives + 1
    (group,) = policy.sample([still_to_play], 2, Sampling())
    assert len(group.completions_G) == 2


def count_calls(work):
    """Calls of functions, Python's and C's: the same on every machine."""
    count = 0

    def note(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("window", [None, 4])
def test_the_work_of_profiling_a_trajectory_grows_with_its_length_not_with_its_square(tmp_path, window):
    counts = []
    for length in (200, 800):
        trajectory = numbered_turns(length)[0].trajectory.model_copy(update={"context_window": window})

        def work(trajectory=trajectory, length=length):
            candidates, _ = cut([trajectory])
            groups, _ = profile(
                candidates, Policy(), verify, tmp_path / f"{window}{length}", ProfileOptions(num_samples=2)
            )
            assert len(groups) == length

        counts.append(count_calls(work))
    assert counts[1] < 4.5 * counts[0]


def test_a_menu_looks_both_ways_and_not_too_far():
    moves = numbered_turns(400)
    policy = Policy(num_alternatives=2)
    assert [action_text(action) for action in policy.menu(moves[200])] == ["move 200", "move 199", "move 201"]
    alike = [Message(role="assistant", content="ok"), Message(role="user", content="go")] * 1000
    last = Trajectory(id="t", task_id="t", messages=(Message(role="assistant", content="first"), *alike))
    assert [action_text(a) for a in policy.menu(Turn(last, 1999))] == ["ok", "made-up action 1", "made-up action 2"]


def test_turns_are_hopeless_mixed_and_easy():
    turns = [Turn(TRAJECTORY.model_copy(update={"id": str(number)}), 1) for number in range(400)]
    expected = np.array([Policy().probabilities(turn)[0] for turn in turns])
    assert 0.1 < (expected < 0.03).mean() < 0.3
    assert 0.1 < (expected > 0.63).mean() < 0.3
    alike = np.array([Policy(spread=0.0).probabilities(turn)[0] for turn in turns])
    assert alike.mean() == pytest.approx(0.25, abs=0.03)
    assert alike.std() < expected.std() / 1.5


def test_logprobs_are_those_of_the_table():
    policy = Policy(seed=3)
    for temperature in (1.0, 0.5):
        (group,) = policy.sample(TURNS[:1], 20, Sampling(temperature=temperature))
        probabilities = policy.probabilities(TURNS[0], temperature)
        for completion in group.completions_G:
            (index,) = completion.token_ids_T
            assert completion.logprobs_T == pytest.approx((math.log(probabilities[index]),))
            assert completion.action == policy.menu(TURNS[0])[index]
            assert completion.text == action_text(completion.action)
    assert group.num_prompt_tokens == 1
    (greedy,) = policy.sample(TURNS[:1], 3, Sampling(temperature=0.0, top_p=0.5))
    assert {c.token_ids_T for c in greedy.completions_G} == {(int(policy.probabilities(TURNS[0]).argmax()),)}
    assert greedy.completions_G[0].logprobs_T[0] == pytest.approx(math.log(policy.probabilities(TURNS[0]).max()))


def test_samples_follow_the_table():
    policy = Policy(seed=1)
    (group,) = policy.sample(TURNS[:1], 4000, Sampling())
    counts = np.bincount([c.token_ids_T[0] for c in group.completions_G], minlength=4)
    assert counts / 4000 == pytest.approx(policy.probabilities(TURNS[0]), abs=0.03)


def test_top_p_leaves_the_tail_out():
    policy = Policy(num_alternatives=7, seed=2)
    probabilities = policy.probabilities(TURNS[0])
    order = np.argsort(-probabilities)
    inside = order[: np.searchsorted(probabilities[order].cumsum(), 0.6) + 1]
    (group,) = policy.sample(TURNS[:1], 600, Sampling(top_p=0.6))
    assert {c.token_ids_T[0] for c in group.completions_G} == set(inside.tolist())
    for completion in group.completions_G:
        expected = math.log(probabilities[completion.token_ids_T[0]] / probabilities[inside].sum())
        assert completion.logprobs_T[0] == pytest.approx(expected)


def test_samples_depend_on_seed_turn_and_index_alone():
    policy = Policy()
    together = {group.turn_id: group for group in policy.sample(TURNS, 8, Sampling(seed=4))}
    for turn in reversed(TURNS):
        (alone,) = policy.sample([turn], 5, Sampling(seed=4, max_tokens=1))
        assert alone.completions_G == together[turn.id].completions_G[:5]
    (other,) = Policy().sample([TURNS[0]], 8, Sampling(seed=5))
    assert other.completions_G != together[TURNS[0].id].completions_G


def test_it_writes_what_is_on_the_menu_only():
    policy = Policy()
    expected = TURNS[0].expected_action
    completion = policy.encode_action(TURNS[0], expected)
    assert (completion.token_ids_T, completion.logprobs_T, completion.text) == ((0,), (0.0,), action_text(expected))
    with pytest.raises(InputError, match="log#1: the tabular policy cannot write 'sing'"):
        policy.encode_action(TURNS[0], Action(content="sing"))


def objective(policy, groups, old, options):
    """Equation 7 on the table, written anew; KL to the initial table exactly."""
    initial, total = Policy(seed=policy.seed), sum(len(group.completions_G) for group in groups)
    value = 0.0
    for group in groups:
        probabilities = policy.probabilities(group.turn, options.temperature)
        reference = initial.probabilities(group.turn, options.temperature)
        for completion, advantage in zip(group.completions_G, group.advantages_G, strict=True):
            (index,) = completion.token_ids_T
            if options.objective == "likelihood":
                value += advantage * math.log(probabilities[index]) / total
                continue
            ratio = probabilities[index] / old[group.turn.id][index]
            clipped = min(max(ratio, 1 - options.clip_low), 1 + options.clip_high)
            value += min(ratio * advantage, clipped * advantage) / total
            kl = float((probabilities * np.log(probabilities / reference)).sum())
            value -= options.kl_coefficient * kl / total
    return value


@pytest.mark.parametrize(
    "options",
    [
        UpdateOptions(),
        UpdateOptions(kl_coefficient=0.7),
        UpdateOptions(kl_coefficient=0.7, temperature=0.6),
        UpdateOptions(objective="likelihood", temperature=1.3),
    ],
)
def test_the_gradient_is_that_of_the_objective_by_finite_differences(options):
    policy = Policy(seed=6)
    policy.update(groups_of(policy, TURNS), 0.8, UpdateOptions())  # away from the reference
    groups = groups_of(policy, TURNS, seed=1)
    old = {turn.id: policy.probabilities(turn, options.temperature) for turn in TURNS}
    before = {turn.id: policy._logits(turn.id).copy() for turn in TURNS}
    rate = 1e-3
    policy.update(groups, rate, options)
    moved = {turn.id: (policy._logits(turn.id) - before[turn.id]) / rate for turn in TURNS}
    for turn in TURNS:
        for entry in range(4):
            values = []
            for step in (1e-5, -1e-5):
                policy._trained = {name: row.copy() for name, row in before.items()}
                policy._trained[turn.id][entry] += step
                values.append(objective(policy, groups, old, options))
            assert moved[turn.id][entry] == pytest.approx((values[0] - values[1]) / 2e-5, abs=1e-7)


def test_the_second_epoch_climbs_the_clipped_objective():
    """Its gradient is taken where the first epoch ended, against the probabilities from before both."""
    rate, options = 12.0, UpdateOptions(clip_low=0.1, clip_high=0.2, max_gradient_norm=1e9)
    once, twice = Policy(seed=6), Policy(seed=6)
    groups = groups_of(once, TURNS)
    old = {turn.id: once.probabilities(turn) for turn in TURNS}
    once.update(groups, rate, options)
    metrics = twice.update(groups, rate, dataclasses.replace(options, num_epochs=2))
    assert 0.0 < metrics["ratio/clipped_fraction"] < 1.0
    start = {name: row.copy() for name, row in once._trained.items()}
    for turn in TURNS:
        for entry in range(4):
            values = []
            for step in (1e-6, -1e-6):
                once._trained = {name: row.copy() for name, row in start.items()}
                once._trained[turn.id][entry] += step
                values.append(objective(once, groups, old, options))
            slope = (values[0] - values[1]) / 2e-6
            assert (twice._logits(turn.id)[entry] - start[turn.id][entry]) / rate == pytest.approx(slope, abs=1e-7)


def test_a_turn_may_stand_in_several_groups():
    policy, parts = Policy(), Policy()
    (group,) = groups_of(policy, TURNS[:1])
    halves = [
        dataclasses.replace(group, completions_G=group.completions_G[half], advantages_G=group.advantages_G[half])
        for half in (slice(0, 3), slice(3, 8))
    ]
    options = UpdateOptions(kl_coefficient=0.3, num_epochs=3)
    whole, split = policy.update([group], 2.0, options), parts.update(halves, 2.0, options)
    assert parts._logits("log#1") == pytest.approx(policy._logits("log#1"), rel=1e-12)
    assert whole == pytest.approx(split)


def test_weight_decay_draws_the_logits_of_the_batch_to_zero():
    policy = Policy()
    (group,) = groups_of(policy, TURNS[:1])
    still = dataclasses.replace(group, advantages_G=[0.0] * 8)
    policy.update([still], 0.5, UpdateOptions(weight_decay=0.1))
    assert policy._logits("log#1") == pytest.approx(0.95 * Policy()._logits("log#1"), rel=1e-12)
    assert (policy._logits("log#3") == Policy()._logits("log#3")).all()


def test_later_epochs_clip_and_the_first_has_ratio_one():
    turns = numbered_turns(3)
    first = Policy().update(groups_of(Policy(), turns), 1.0, UpdateOptions())
    assert (first["ratio/mean"], first["ratio/clipped_fraction"]) == (1.0, 0.0)
    policy = Policy()
    metrics = policy.update(groups_of(policy, turns), 20.0, UpdateOptions(num_epochs=40))
    assert metrics["ratio/clipped_fraction"] > 0.3
    free = Policy()
    free.update(groups_of(free, turns), 20.0, UpdateOptions(num_epochs=40, clip_low=0.99, clip_high=1e9))
    moved, moved_freely = (
        sum(abs(p.probabilities(turn) - Policy().probabilities(turn)).sum() for turn in turns) for p in (policy, free)
    )
    assert moved < moved_freely


def test_metrics_tell_what_happened():
    policy = Policy()
    groups = groups_of(policy, TURNS, num_samples=4)
    metrics = policy.update(groups, 0.5, UpdateOptions(kl_coefficient=0.1))
    assert metrics["loss/total"] == metrics["loss/policy"] == -sum(sum(g.advantages_G) for g in groups) / 12
    assert metrics["loss/kl"] == 0.0
    assert metrics["policy/sampler_gap"] == 0.0
    assert metrics["tokens/trained"] == 12.0
    assert 0.0 < metrics["policy/entropy"] < math.log(4)
    again = policy.update(groups, 0.5, UpdateOptions(kl_coefficient=0.1))
    assert again["loss/kl"] > 0.0
    assert again["loss/total"] == pytest.approx(again["loss/policy"] + 0.1 * again["loss/kl"])


def test_the_step_is_clipped_by_the_gradient_norm():
    groups = groups_of(Policy(), TURNS)
    free, held = Policy(), Policy()
    norm = free.update(groups, 1.0, UpdateOptions(max_gradient_norm=1e9))["gradient/norm"]
    held.update(groups, 1.0, UpdateOptions(max_gradient_norm=norm / 2))
    for turn in TURNS:
        start = Policy()._logits(turn.id)
        assert held._logits(turn.id) - start == pytest.approx((free._logits(turn.id) - start) / 2, rel=1e-4)


def test_imitation_makes_the_expected_action_certain_and_practice_makes_it_likely():
    turns = numbered_turns(6)
    imitator, learner = Policy(), Policy()
    options = UpdateOptions(objective="likelihood")
    for step in range(150):
        shown = [TrainingGroup(turn, [imitator.encode_action(turn, turn.expected_action)], [1.0]) for turn in turns]
        imitator.update(shown, 6.0, options)
        learner.update(groups_of(learner, turns, seed=derive_seed(0, step)), 6.0, UpdateOptions())
    assert min(imitator.probabilities(turn)[0] for turn in turns) > 0.95
    assert np.mean([learner.probabilities(turn)[0] for turn in turns]) > 0.9


def test_a_step_that_is_not_finite_is_skipped():
    policy = Policy()
    groups = groups_of(policy, TURNS)
    spoilt = [TrainingGroup(g.turn, g.completions_G, [math.nan] * len(g.completions_G)) for g in groups]
    assert policy.update(spoilt, 1.0, UpdateOptions())["update/skipped"] == 1.0
    for turn in TURNS:
        assert (policy.probabilities(turn) == Policy().probabilities(turn)).all()


def test_completions_of_something_else_are_refused():
    policy = Policy()
    (group,) = groups_of(policy, TURNS[:1])
    with pytest.raises(ValueError, match="log#1 was sampled from a different rendering"):
        Policy(num_alternatives=2).update([group], 1.0, UpdateOptions())
    (scripted,) = Sampler(script={"log#1": ["two bytes"]}).sample(TURNS[:1], 1, Sampling())
    with pytest.raises(ValueError, match="not sampled by a tabular policy"):
        policy.update([TrainingGroup(TURNS[0], scripted.completions_G, [1.0])], 1.0, UpdateOptions())
    with pytest.raises(ValueError, match="at least one completion"):
        policy.update([], 1.0, UpdateOptions())


def test_saving_and_loading_continues_bit_for_bit(tmp_path):
    options = UpdateOptions(kl_coefficient=0.1, num_epochs=2, weight_decay=0.01)

    def train(policy, steps):
        for step in steps:
            policy.update(groups_of(policy, TURNS, seed=step), 1.7, options)
        return {turn.id: policy._logits(turn.id).tolist() for turn in TURNS}

    whole, first, second = Policy(seed=9), Policy(seed=9), Policy(seed=9)
    expected = train(whole, range(6))
    train(first, range(3))
    first.save(tmp_path / "step-3")
    first.save(tmp_path / "step-3")  # replaces
    second.load(tmp_path / "step-3")
    assert train(second, range(3, 6)) == expected
    second.save(tmp_path / "a")
    whole.save(tmp_path / "b")
    assert (tmp_path / "a" / "table.json").read_bytes() == (tmp_path / "b" / "table.json").read_bytes()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.unlink(), "it has no table.json"),
        (lambda file: file.write_text(file.read_text()[:-20]), "damaged"),
        (lambda file: file.write_text("[]"), "damaged"),
        (lambda file: file.write_text(file.read_text().replace("0.", "x.", 1)), "damaged"),
        (lambda file: file.write_text(file.read_text().replace("0.", "1.", 1)), "its hash differs"),
        (lambda file: file.write_text(json.dumps({"identity": Policy().identity, "logits": {"t": [1.0]}})), "damaged"),
        (lambda file: file.write_text(file.read_text().replace('"seed": 0', '"seed": 1')), "use the same options"),
    ],
)
def test_a_damaged_checkpoint_is_refused_with_its_place(tmp_path, damage, message):
    policy = Policy()
    policy.update(groups_of(policy, TURNS), 1.0, UpdateOptions())
    policy.save(tmp_path / "step")
    damage(tmp_path / "step" / "table.json")
    with pytest.raises(InputError, match=message) as caught:
        Policy().load(tmp_path / "step")
    assert str(tmp_path / "step") in str(caught.value)


def test_export_writes_probabilities(tmp_path):
    policy = Policy()
    policy.update(groups_of(policy, TURNS), 1.0, UpdateOptions())
    policy.export(tmp_path / "out")
    rows = json.loads((tmp_path / "out" / "probabilities.json").read_text())
    assert rows["log#1"] == pytest.approx(policy.probabilities(TURNS[0]))
    assert rows.keys() == {turn.id for turn in TURNS}


def test_text_scores_are_stand_ins_that_move_with_training():
    policy = Policy()
    assert policy.score_text("question", "two words") == (math.log(4), 0.0, 2)
    policy.update(groups_of(policy, TURNS), 1.0, UpdateOptions())
    nll, kl, num_tokens = policy.score_text("question", "")
    expected = []
    for turn in TURNS:
        now, start = policy.probabilities(turn), Policy().probabilities(turn)
        expected.append((now * np.log(now / start)).sum())
    assert (nll, kl, num_tokens) == (math.log(4), pytest.approx(np.mean(expected)), 1)


@pytest.mark.parametrize("options", [{"num_alternatives": 0}, {"spread": -1.0}, {"spread": math.nan}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        Policy(**options)


def test_both_are_found_by_name():
    assert load("policies", "tabular(num_alternatives=2, seed=5)").identity["seed"] == 5
    assert load("samplers", "scripted", script={}).identity["otherwise"] == "expected"


# --- the script -------------------------------------------------------------------------------------------------------

SCRIPT = {"log#1": ['<tool_call>{"name": "f", "arguments": {}}</tool_call>', "hello", "<tool_call>{"]}


def test_a_script_answers_in_turn_and_starts_over():
    groups = list(Sampler(script=SCRIPT).sample(TURNS, 4, Sampling()))
    assert [group.turn_id for group in groups] == ["log#1", "log#3", "log#5"]
    first, second, third, fourth = groups[0].completions_G
    assert first.action.tool_calls == (ToolCall(name="f", arguments="{}"),)
    assert second.action == Action(content="hello")
    assert second.token_ids_T == tuple(b"hello")
    assert second.logprobs_T == (0.0,) * 5
    assert (third.action, third.parse_error) == (Action(), "tool_call_not_closed")
    assert fourth == first
    assert all(c.action == Action(content="It rains.") for group in groups[1:] for c in group.completions_G)


def test_turns_outside_the_script_get_the_expected_action_or_a_text():
    (expected,) = Sampler(script={}).sample(TURNS[:1], 1, Sampling())
    assert expected.completions_G[0].action == Action(tool_calls=(CALL,))
    (fixed,) = Sampler(script={}, otherwise="pass").sample(TURNS[:1], 1, Sampling())
    assert fixed.completions_G[0].action == Action(content="pass")
    still_to_play = Turn(TRAJECTORY, len(TRAJECTORY.messages))
    with pytest.raises(InputError, match=r"log#6.*add the turn to the script"):
        list(Sampler(script={}).sample([still_to_play], 1, Sampling()))


def test_a_script_may_be_a_file_and_its_content_is_its_identity(tmp_path):
    file = tmp_path / "script.json"
    file.write_text(json.dumps(SCRIPT))
    assert Sampler(script=file).identity == Sampler(script=str(file)).identity == Sampler(script=SCRIPT).identity
    assert Sampler(script={}).identity != Sampler(script=SCRIPT).identity
    assert Sampler(script={}).fits(TURNS[0], 10**9)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read the script .*script.json: No such file"),
        (b'{\n"log#1": ["a",]\n}', r"script.json:2 is not JSON: .*\(column 1\d\)"),
        (b"\xff\xfe", "not JSON in UTF-8"),
        (b"[" * 200_000, "not JSON in UTF-8"),
        (b'["a"]', "not an object of turn ids"),
        (b'{"log#1": "a"}', "'log#1' has no list of texts"),
        (b'{"log#1": []}', "'log#1' has no list of texts"),
        (b'{"log#1": ["a", 3]}', "answer 1 at 'log#1' is not a string"),
    ],
)
def test_a_bad_script_is_refused_with_place_fault_and_remedy(tmp_path, content, message):
    file = tmp_path / "script.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        Sampler(script=file)
    assert 'write {"<turn id>": ["<text>", ...], ...}' in str(caught.value)


def test_a_bad_mapping_is_refused_as_well():
    with pytest.raises(InputError, match="the script: 3 is not a turn id"):
        Sampler(script={3: ["a"]})
