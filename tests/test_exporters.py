"""Exports: what another stack reads is the run's own turns, whole, split by task, with rewards it can compute again."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import subprocess
import sys
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pivotrl import plugins
from pivotrl.exporters import ms_swift, nemo_gym, skyrl, trl, verifiers
from pivotrl.options import options_dict
from pivotrl.parsing import action_text, parse_completion
from pivotrl.profiling import ProfileOptions
from pivotrl.protocols import InputError, Turn
from pivotrl.readers import chat, tau_bench
from pivotrl.readers import nemo_gym as gym_reader
from pivotrl.records import Manifest, Message, SampleGroup, Selection, Tool, ToolCall, Trajectory
from pivotrl.rows.exporting import ExportOptions, export
from pivotrl.rows.rewards import RowReward, trl_reward, turn_of_row
from pivotrl.rows.rows import turn_text
from pivotrl.rows.settings import settings_of
from pivotrl.runs.files import RunFiles
from pivotrl.runs.manifest import read_manifest, write_manifest
from pivotrl.samplers.scripted import Sampler
from pivotrl.selection import SelectionOptions
from pivotrl.stages.profiling import profile_stage
from pivotrl.stages.selecting import select_stage
from pivotrl.storage.record_files import RecordFile, read_records
from pivotrl.training_options import TrainingOptions
from pivotrl.turns import cut
from pivotrl.verifiers.tool_call import verify

DATA = Path(__file__).parent / "data"
GYM_ROWS = ("single_step_tool_use", "parallel_tool_calls", "swe_pivot")
NAMES = ("ms_swift", "nemo_gym", "skyrl", "trl", "verifiers", "verl")
WRONG = '<tool_call>\n{"name": "no_such_tool", "arguments": {}}\n</tool_call>'
ALWAYS_PASSES = "parallel_tool_calls-4#2"
NO_VALIDATION = ExportOptions(validation_fraction=0.0)


def make_run(directory: Path, trajectories: list[Trajectory], always_pass: tuple[str, ...] = ()) -> Path:
    """A run whose reference policy does as the expert in one of four samples, or in all of them."""
    RecordFile(directory / "trajectories.jsonl", Trajectory, key=lambda t: t.id).append(trajectories)
    script = {
        turn.id: [action_text(turn.expected_action)] + ([] if turn.id in always_pass else [WRONG] * 3)
        for turn in cut(trajectories)[0]
    }
    profile_stage(directory, sampler=Sampler(script=script), verifier=verify, profiling=ProfileOptions(num_samples=4))
    select_stage(directory, selection=SelectionOptions())
    return directory


def real_trajectories() -> list[Trajectory]:
    """15 rows of NeMo Gym, 3 chat logs, 6 episodes of tau-bench."""
    sources: list[Iterator[Any]] = [gym_reader.read(DATA / "nemo_gym" / f"{name}.jsonl") for name in GYM_ROWS]
    sources += [chat.read(DATA / "chat/three_agents.jsonl"), tau_bench.read(DATA / "tau_bench/gpt-4o-airline.json")]
    return [item for source in sources for item in source if isinstance(item, Trajectory)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"), real_trajectories(), (ALWAYS_PASSES,))


def branching_trajectories() -> list[Trajectory]:
    """Two good runs of each of four tasks. Both begin alike and then act differently, so either action is right."""

    def look(task: int, where: str) -> Message:
        return Message(role="assistant", tool_calls=(ToolCall(name="look", arguments=json.dumps({where: task})),))

    tools = (Tool(name="look"),)
    return [
        Trajectory(
            id=f"{where}-{task}",
            task_id=f"key-{task}",
            tools=tools,
            reward=1.0,
            messages=(
                Message(role="system", content="You search a house."),
                Message(role="user", content=f"Where is key {task}?"),
                look(task, "hall"),
                Message(role="tool", content="Nothing here."),
                look(task, where),
                Message(role="tool", content="Here it is."),
                Message(role="assistant", content=f"In the {where}."),
            ),
        )
        for task in range(4)
        for where in ("attic", "cellar")
    ]


def branching_run(directory: Path) -> Path:
    """Its policy does as the expert, as the other run of the task, or something wrong."""
    logs = branching_trajectories()
    RecordFile(directory / "trajectories.jsonl", Trajectory, key=lambda t: t.id).append(logs)
    actions = {turn.id: action_text(turn.expected_action) for turn in cut(logs)[0]}
    other = {"attic": "cellar", "cellar": "attic"}
    twins = {name: f"{other[name.partition('-')[0]]}-{name.partition('-')[2]}" for name in actions}
    script = {name: [text, actions[twins[name]], WRONG, WRONG] for name, text in actions.items()}
    profile_stage(directory, sampler=Sampler(script=script), verifier=verify, profiling=ProfileOptions(num_samples=4))
    select_stage(directory, selection=SelectionOptions())
    return directory


def old_turns(run: Path) -> dict[str, Turn]:
    """As turns were once loaded here and by the exporter: straight from the file, which holds no alternatives."""
    trajectories = {t.id: t for t in read_records(run / "trajectories.jsonl", Trajectory)}
    groups = read_records(run / "profiles.jsonl", SampleGroup)
    places = {group.turn_id: group.turn_id.rpartition("#") for group in groups}
    return {turn_id: Turn(trajectories[id], int(index)) for turn_id, (id, _, index) in places.items()}


@pytest.fixture(scope="module")
def turns(run: Path) -> dict[str, Turn]:
    return turns_of(run)


def turns_of(run: Path) -> dict[str, Turn]:
    """As the exporter loads them."""
    files = RunFiles(run)
    return {turn.id: turn for turn in files.turns(group.turn_id for group in files.profiles())}


def load(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def facts_of(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, **row.get("extra_info", {}), **row.get("info", {})}


def import_file(path: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(f"exported_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows_of(folder: Path, split: str) -> list[dict[str, Any]]:
    if (folder / f"{split}.parquet").is_file():
        parquet = pytest.importorskip("pyarrow.parquet")
        rows: list[dict[str, Any]] = parquet.read_table(folder / f"{split}.parquet").to_pylist()
        return rows
    return load(folder / f"{split}.jsonl") if (folder / f"{split}.jsonl").is_file() else []


def exporter_of(name: str) -> Any:
    if name == "verl":
        pytest.importorskip("pyarrow")
    return plugins.load("exporters", name)


# --- every exporter -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_pivot_is_written_once_or_left_out_with_a_reason(run: Path, tmp_path: Path, name: str) -> None:
    options = ExportOptions(validation_fraction=0.3)
    manifest = export(run, exporter_of(name), tmp_path / "out", options)
    written = [facts_of(row) for split in ("train", "validation") for row in rows_of(tmp_path / "out", split)]
    skipped = load(tmp_path / "out/skipped.jsonl") if (tmp_path / "out/skipped.jsonl").exists() else []
    ids = [row["pivotrl_turn_id"] for row in written] + [skip["turn_id"] for skip in skipped]
    pivots = [row.turn_id for row in read_records(run / "selection.jsonl", Selection) if row.selected]
    assert sorted(ids) == sorted(pivots) and ALWAYS_PASSES not in ids
    assert all(skip["reason"] for skip in skipped)
    assert sum(manifest.counts["rows"].values()) == len(written)
    assert manifest == Manifest.model_validate_json((tmp_path / "out/export.manifest.json").read_bytes())


@pytest.mark.parametrize("name", NAMES)
def test_the_profile_travels_with_the_rows_under_names_of_ours(run: Path, tmp_path: Path, name: str) -> None:
    export(run, exporter_of(name), tmp_path / "out", NO_VALIDATION)
    policy = read_manifest(run / "profile.manifest.json").inputs["policy"]
    for row in map(facts_of, rows_of(tmp_path / "out", "train")):
        assert (row["pivotrl_reward_mean"], row["pivotrl_reward_variance"]) == (0.25, 0.1875)
        assert (row["pivotrl_num_scored"], row["pivotrl_num_samples"]) == (4, 4)
        assert row["pivotrl_policy_sha256"] == policy
        assert row["pivotrl_turn_id"].startswith(row["pivotrl_trajectory_id"] + "#")
        assert not {"pass_rate", "pass_rate_total", "num_unique_actions"} & row.keys()


@pytest.mark.parametrize("name", NAMES)
def test_no_task_stands_in_both_splits(run: Path, tmp_path: Path, name: str) -> None:
    export(run, exporter_of(name), tmp_path / "out", ExportOptions(validation_fraction=0.4))
    sides = [
        {facts_of(row)["pivotrl_task_id"] for row in rows_of(tmp_path / "out", s)} for s in ("train", "validation")
    ]
    assert sides[0] and sides[1] and not sides[0] & sides[1]
    assert "41" in sides[0] | sides[1]  # two trajectories of it


@pytest.mark.parametrize("name", NAMES)
def test_the_same_run_gives_the_same_bytes(run: Path, tmp_path: Path, name: str) -> None:
    for out in ("one", "two"):
        export(run, exporter_of(name), tmp_path / out, ExportOptions(validation_fraction=0.3))
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "two").iterdir())
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_says_what_there_is_and_how_to_start(run: Path, tmp_path: Path, name: str) -> None:
    manifest = export(run, exporter_of(name), tmp_path / "out", ExportOptions(validation_fraction=0.3))
    text = (tmp_path / "out/README.md").read_text()
    for split, count in manifest.counts["rows"].items():
        assert f"| {split} | {count} | {manifest.counts['tasks'][split]} |" in text
    assert "## Start" in text and "pivotrl.verifiers.tool_call:verify" in text
    assert str(tmp_path) not in text
    for reason in manifest.counts["skipped"]:
        assert reason in text


def assert_pays_as_the_profile(run: Path, rows: list[dict[str, Any]], turns: dict[str, Turn]) -> int:
    """Every profiled completion, judged from the exported row alone, gets the verdict that is stored in the profile.

    Returns:
        how many verdicts were compared.
    """
    groups = {group.turn_id: group for group in RunFiles(run).profiles()}
    reward = RowReward(read_manifest(run / "profile.manifest.json").options["verifier"])
    judged = 0
    for row in rows:
        again, turn = turn_of_row(row["pivotrl_turn"]), turns[row["pivotrl_turn_id"]]
        assert again.context == turn.context and again.trajectory.tools == turn.trajectory.tools
        assert again.accepted_actions == turn.accepted_actions
        group = groups[turn.id]
        for completion, verdict in zip(group.completions_G, group.verdicts_G, strict=True):
            assert reward.verdict(completion.text, row["pivotrl_turn"]) == verdict
            judged += 1
    return judged


@pytest.mark.parametrize("name", [name for name in NAMES if name != "nemo_gym"])
@pytest.mark.parametrize("logs", ["real", "branching"])
def test_a_row_pays_what_the_profile_paid(run: Path, tmp_path: Path, logs: str, name: str) -> None:
    if logs == "branching":
        run = branching_run(tmp_path / "run")
    export(run, exporter_of(name), tmp_path / "out", NO_VALIDATION)
    rows, turns = list(map(facts_of, rows_of(tmp_path / "out", "train"))), turns_of(run)
    assert assert_pays_as_the_profile(run, rows, turns) == 4 * len(rows)
    num_forks = sum(len(turns[row["pivotrl_turn_id"]].accepted_actions) > 1 for row in rows)
    assert (len(rows), num_forks) == (24, 8) if logs == "branching" else len(rows) > 25
    if logs == "branching":  # a sample that does as the other run did is paid
        rewards = {group.turn_id: group.rewards for group in RunFiles(run).profiles()}
        assert {tuple(rewards[f"{where}-{task}#4"]) for where in ("attic", "cellar") for task in range(4)} == {
            (1.0, 1.0, 0.0, 0.0)
        }


def test_twin_turns_without_their_alternatives_would_be_seen(tmp_path: Path) -> None:
    run = branching_run(tmp_path / "run")
    export(run, trl.export, tmp_path / "out", NO_VALIDATION)
    rows = load(tmp_path / "out/train.jsonl")
    with pytest.raises(AssertionError):
        assert_pays_as_the_profile(run, rows, old_turns(run))
    poorer = [{**row, "pivotrl_turn": turn_text(old_turns(run)[row["pivotrl_turn_id"]])} for row in rows]
    with pytest.raises(AssertionError):
        assert_pays_as_the_profile(run, poorer, turns_of(run))


# --- the stage ----------------------------------------------------------------------------------------------------


def test_profiled_turns_may_be_exported_whatever_their_outcome(run: Path, tmp_path: Path) -> None:
    export(run, trl.export, tmp_path / "out", ExportOptions(turns="profiled", validation_fraction=0.0))
    by_id = {row["pivotrl_turn_id"]: row for row in load(tmp_path / "out/train.jsonl")}
    assert by_id[ALWAYS_PASSES]["pivotrl_reward_mean"] == 1.0


def test_a_folder_that_holds_something_is_left_alone(run: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        export(run, trl.export, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    empty = tmp_path / "empty"
    empty.mkdir()
    export(run, trl.export, empty, NO_VALIDATION)
    assert (empty / "train.jsonl").is_file()


def test_an_export_that_breaks_leaves_nothing(run: Path, tmp_path: Path) -> None:
    def broken(pivots: Any, folder: Path) -> Any:
        trl.export(pivots, folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        export(run, broken, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_profile_of_other_trajectories_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", real_trajectories()[:4])
    file = RecordFile(run / "trajectories.jsonl", Trajectory, key=lambda t: t.id)
    file.append([real_trajectories()[5]])
    with pytest.raises(InputError, match="differs from the input of the profile stage"):
        export(run, trl.export, tmp_path / "out")


def test_a_run_without_selection_says_what_to_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", real_trajectories()[:4])
    (run / "select.manifest.json").unlink()
    with pytest.raises(InputError, match="pivotrl select"):
        export(run, trl.export, tmp_path / "out")
    assert export(run, trl.export, tmp_path / "out", ExportOptions(turns="profiled", validation_fraction=0.0))


def test_an_export_of_nothing_is_refused_with_the_reasons(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [t for t in real_trajectories() if t.id.startswith("swe_pivot")])
    with pytest.raises(InputError, match="tool_not_declared"):
        export(run, nemo_gym.export, tmp_path / "out", NO_VALIDATION)
    assert not (tmp_path / "out").exists()


def test_secrets_in_what_is_shared_are_told(tmp_path: Path) -> None:
    key = "AKIA" + "QYLPMN5HHHFPZAM2"
    log = real_trajectories()[0]
    leaking = log.messages[1].model_copy(update={"content": f"{log.messages[1].content} aws {key}"})
    planted = log.model_copy(update={"messages": (log.messages[0], leaking, *log.messages[2:])})
    manifest = export(make_run(tmp_path / "run", [planted]), trl.export, tmp_path / "out", NO_VALIDATION)
    assert sum(manifest.counts["secrets"].values()) >= 1
    readme = (tmp_path / "out/README.md").read_text()
    assert "Look before you share" in readme and key not in readme


# --- NeMo Gym -----------------------------------------------------------------------------------------------------

REQUEST_KEYS = {
    *("background", "include", "input", "instructions", "max_output_tokens", "max_tool_calls", "metadata", "model"),
    *("parallel_tool_calls", "previous_response_id", "prompt", "reasoning", "service_tier", "store", "temperature"),
    *("text", "tool_choice", "tools", "top_logprobs", "top_p", "truncation", "user", "stream"),
}
ITEM_KEYS = {
    "message": {"type", "role", "content", "id", "status"},
    "reasoning": {"type", "id", "summary"},
    "function_call": {"type", "id", "call_id", "name", "arguments", "status"},
    "function_call_output": {"type", "call_id", "output"},
}


def check_gym_row(row: dict[str, Any], agent: str) -> None:
    """The rules of Gym's validator and of its request model, written down independently."""
    request, expected = row["responses_create_params"], row["expected_action"]
    assert request.keys() <= REQUEST_KEYS
    assert request["tool_choice"] == "auto" and isinstance(request["parallel_tool_calls"], bool)
    assert isinstance(request["input"], list) and request["input"] and isinstance(request["tools"], list)
    schemas = [tool.pop("parameters") for tool in request["tools"]]
    assert all(isinstance(schema, dict) for schema in schemas)
    assert "null" not in json.dumps(row, separators=("\n", "\n")).split("\n")
    for tool in request["tools"]:
        assert tool.keys() == {"type", "name", "description", "strict"} and tool["type"] == "function"
    for item in request["input"]:
        assert item.keys() <= ITEM_KEYS[item["type"]]
        if item["type"] == "function_call_output":
            assert isinstance(item["output"], str)
        elif item["type"] == "message" and item["role"] == "assistant":
            assert [part.keys() for part in item["content"]] == [{"type", "text", "annotations"}]
        elif item["type"] == "message":
            assert item["role"] in ("user", "system") and isinstance(item["content"], str)
    answered = [item["call_id"] for item in request["input"] if item["type"] == "function_call_output"]
    called = [item["call_id"] for item in request["input"] if item["type"] == "function_call"]
    assert set(answered) <= set(called)
    calls = {"message": [], "function_call": [expected], "function_call_batch": expected.get("calls", [])}
    for call in calls[expected["type"]]:
        assert call.keys() == {"type", "name", "arguments"} and call["type"] == "function_call"
        assert isinstance(json.loads(call["arguments"]), dict)
        assert call["name"] in [tool["name"] for tool in request["tools"]]
    if expected["type"] == "message":
        assert expected.keys() == {"type", "content"} and isinstance(expected["content"], str)
    assert expected["type"] != "function_call_batch" or len(expected["calls"]) > 1
    assert row["agent_ref"] == {"type": "responses_api_agents", "name": agent}


@pytest.mark.parametrize("batches", [False, True])
def test_gym_rows_keep_to_the_contract(run: Path, tmp_path: Path, batches: bool) -> None:
    def exporter(pivots: Any, folder: Path) -> Any:
        return nemo_gym.export(pivots, folder, name="my_pivots", batches=batches)

    manifest = export(run, exporter, tmp_path / "out", NO_VALIDATION)
    rows = load(tmp_path / "out/train.jsonl")
    assert len(rows) > 10
    for row in rows:
        check_gym_row(row, "my_pivots_agent")
    kinds = {row["pivotrl_turn_id"]: row["expected_action"]["type"] for row in rows}
    several = ["parallel_tool_calls-1#2", "parallel_tool_calls-2#2", "parallel_tool_calls-3#2"]
    if batches:
        assert all(kinds[turn_id] == "function_call_batch" for turn_id in several)
    else:
        reasons = {skip["turn_id"]: skip["reason"] for skip in load(tmp_path / "out/skipped.jsonl")}
        assert [reasons[turn_id] for turn_id in several] == ["several_calls"] * 3
        assert manifest.counts["skipped"]["several_calls"] == 3
    assert kinds["single_step_tool_use-1#4"] == "function_call" and kinds["single_step_tool_use-2#4"] == "message"


def test_gym_rows_read_back_as_the_same_turns(run: Path, tmp_path: Path, turns: dict[str, Turn]) -> None:
    def exporter(pivots: Any, folder: Path) -> Any:
        return nemo_gym.export(pivots, folder, batches=True)

    export(run, exporter, tmp_path / "out", NO_VALIDATION)
    back = list(gym_reader.read(tmp_path / "out/train.jsonl"))
    rows = load(tmp_path / "out/train.jsonl")
    assert len(back) == len(rows) > 10
    for read, row in zip(back, rows, strict=True):
        assert isinstance(read, Trajectory)
        turn = turns[row["pivotrl_turn_id"]]
        again = Turn(read, len(read.messages) - 1)
        assert again.context == turn.context
        assert read.tools == turn.trajectory.tools
        assert [(c.name, c.arguments) for c in again.expected_action.tool_calls] == [
            (c.name, c.arguments) for c in turn.expected_action.tool_calls
        ]
        if not turn.expected_action.tool_calls:
            assert again.expected_action == turn.expected_action


def test_thoughts_of_earlier_turns_stay_in_gym_rows(run: Path, tmp_path: Path) -> None:
    export(run, nemo_gym.export, tmp_path / "out", NO_VALIDATION)
    row = next(r for r in load(tmp_path / "out/train.jsonl") if r["pivotrl_turn_id"] == "single_step_tool_use-1#4")
    kinds = [item["type"] for item in row["responses_create_params"]["input"]]
    assert kinds == ["message", "message", "reasoning", "message", "message"]
    original = load(DATA / "nemo_gym/single_step_tool_use.jsonl")[0]
    thought = next(i for i in original["responses_create_params"]["input"] if i["type"] == "reasoning")
    assert row["responses_create_params"]["input"][2]["summary"] == thought["summary"]


def test_calls_without_ids_are_paired_with_their_results(tmp_path: Path) -> None:
    tools = (Tool(name="look", parameters={"type": "object"}),)
    messages = (
        Message(role="user", content="go"),
        Message(role="assistant", tool_calls=(ToolCall(name="look", arguments='{"a": 1}'), ToolCall(name="look"))),
        Message(role="tool", content="one"),
        Message(role="tool", content="two"),
        Message(role="assistant", content="done"),
    )
    log = Trajectory(id="t", task_id="t", messages=messages, tools=tools)
    export(make_run(tmp_path / "run", [log]), nemo_gym.export, tmp_path / "out", NO_VALIDATION)
    (row,) = load(tmp_path / "out/train.jsonl")
    _, first, second, one, two = row["responses_create_params"]["input"]
    assert first["call_id"] == one["call_id"] != second["call_id"] == two["call_id"]
    assert (one["output"], two["output"]) == ("one", "two")


def test_what_gym_would_merge_is_left_out(tmp_path: Path) -> None:
    messages = (
        Message(role="user", content="go"),
        Message(role="assistant", content="I start."),
        Message(role="assistant", content="I go on."),
    )
    run = make_run(tmp_path / "run", [Trajectory(id="t", task_id="t", messages=messages)])
    export(run, nemo_gym.export, tmp_path / "out", NO_VALIDATION)
    assert load(tmp_path / "out/skipped.jsonl") == [{"turn_id": "t#2", "reason": "assistant_messages_in_a_row"}]


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("nemo_gym(threshold=0.51)", "0 to 0.5"),  # Gym's own rule would refuse a perfect copy
        ("nemo_gym(threshold=-0.1)", "threshold must be"),
        ("nemo_gym(name='my pivots')", "not a valid configuration name"),
        ("nemo_gym(license='mine')", "Apache 2.0"),
        ("trl(calls='nativ')", "'native'"),
    ],
)
def test_options_that_another_stack_would_choke_on_are_refused(run: Path, tmp_path: Path, spec: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        export(run, plugins.load("exporters", spec), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_the_gym_configuration_names_the_rows_and_their_agent(run: Path, tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    export(run, nemo_gym.export, tmp_path / "out", ExportOptions(validation_fraction=0.3))
    config = yaml.safe_load((tmp_path / "out/pivotrl.yaml").read_text())
    server = config["pivotrl_resources_server"]["resources_servers"]
    assert list(server) == ["single_step_tool_use_with_argument_comparison"]
    (block,) = server.values()
    assert block["tool_call_comparator_config"] == {"word_count_similarity_threshold": 0.1}
    agent = config["pivotrl_agent"]["responses_api_agents"]["tool_simulation_agent"]
    assert agent["resources_server"]["name"] in config
    assert [Path(dataset["jsonl_fpath"]).name for dataset in agent["datasets"]] == ["train.jsonl", "validation.jsonl"]


def test_gyms_own_models_take_the_rows_and_reward_the_expected_action(run: Path, tmp_path: Path) -> None:
    """Needs the package nemo-gym (its models import under Python 3.11 although it asks for 3.12)."""
    models = pytest.importorskip("nemo_gym.openai_utils")
    settings = pytest.importorskip("nemo_gym.config_types")
    server = "resources_servers.single_step_tool_use_with_argument_comparison.common.verification_utils"
    verification = pytest.importorskip(server)
    pydantic = pytest.importorskip("pydantic")
    yaml = pytest.importorskip("yaml")
    export(run, nemo_gym.export, tmp_path / "out", ExportOptions(validation_fraction=0.3))
    config = yaml.safe_load((tmp_path / "out/pivotrl.yaml").read_text())
    for dataset in config["pivotrl_agent"]["responses_api_agents"]["tool_simulation_agent"]["datasets"]:
        settings.DatasetConfig.model_validate(dataset)
    (block,) = config["pivotrl_resources_server"]["resources_servers"].values()
    comparator = verification.ToolCallComparator(config=block["tool_call_comparator_config"])
    action = pydantic.TypeAdapter(verification.ExpectedAction)
    compared = 0
    for row in load(tmp_path / "out/train.jsonl"):
        request = models.NeMoGymResponseCreateParamsNonStreaming(**row["responses_create_params"])
        kinds = [type(item).__name__ for item in request.input]
        assert len(kinds) == len(row["responses_create_params"]["input"])
        for item, kind in zip(row["responses_create_params"]["input"], kinds, strict=True):
            assert ("Reasoning" in kind) == (item["type"] == "reasoning")
            assert ("FunctionToolCall" in kind) == (item["type"] == "function_call")
        expected = action.validate_python(row["expected_action"])
        if expected.type == "function_call":
            call = models.NeMoGymResponseFunctionToolCall(
                call_id="1", name=expected.name, arguments=row["expected_action"]["arguments"]
            )
            assert comparator.compare_tool_call(expected, call)[0] == 1.0
            compared += 1
    assert compared > 1


# --- TRL ----------------------------------------------------------------------------------------------------------


def test_trl_rows_are_plain_text_that_reads_back_as_the_expert(
    run: Path, tmp_path: Path, turns: dict[str, Turn]
) -> None:
    export(run, trl.export, tmp_path / "out", NO_VALIDATION)
    rows = load(tmp_path / "out/train.jsonl")
    for row in rows:
        turn = turns[row["pivotrl_turn_id"]]
        for message in row["prompt"] + row["completion"]:
            assert message.keys() == {"role", "content"} and isinstance(message["content"], str)
        assert {message["role"] for message in row["prompt"]} <= {"system", "user", "assistant"}
        action, error = parse_completion(row["completion"][0]["content"])
        assert error is None
        assert [c.name for c in action.tool_calls] == [c.name for c in turn.expected_action.tool_calls]
        for tool in turn.trajectory.tools:
            assert f'"name": "{tool.name}"' in row["prompt"][0]["content"]
    first = next(row for row in rows if row["pivotrl_turn_id"] == "single_step_tool_use-1#4")
    assert "Event Ticketing Agent Policy" in first["prompt"][0]["content"]
    assert json.loads(parse_completion(first["completion"][0]["content"])[0].tool_calls[0].arguments)["user_id"] == (
        "GROOM2024"
    )


def test_text_prompts_are_what_our_own_chatml_writes(run: Path, tmp_path: Path, turns: dict[str, Turn]) -> None:
    """So that a profile made with it was made on the exported prompts."""
    transformers = pytest.importorskip("transformers")
    from pivotrl.rendering import Renderer
    from tiny import save_tiny_model

    tokenizer = transformers.AutoTokenizer.from_pretrained(save_tiny_model(tmp_path / "tiny"))
    renderer = Renderer(tokenizer, style="chatml")
    export(run, trl.export, tmp_path / "out", NO_VALIDATION)
    rows = {row["pivotrl_turn_id"]: row for row in load(tmp_path / "out/train.jsonl")}
    for turn_id in ("parallel_tool_calls-1#2", "swe_pivot-1#2", "three_agents-3#4"):
        row = rows[turn_id]
        text = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in row["prompt"])
        assert tokenizer.decode(renderer.prompt(turns[turn_id])) == text + "<|im_start|>assistant\n"


def test_native_trl_rows_keep_calls_and_tools(run: Path, tmp_path: Path) -> None:
    def exporter(pivots: Any, folder: Path) -> Any:
        return trl.export(pivots, folder, calls="native")

    export(run, exporter, tmp_path / "out", NO_VALIDATION)
    rows = {row["pivotrl_turn_id"]: row for row in load(tmp_path / "out/train.jsonl")}
    row = rows["parallel_tool_calls-1#2"]
    calls = [call["function"] for call in row["completion"][0]["tool_calls"]]
    assert calls == [{"name": "get_weather", "arguments": {"city": city}} for city in ("Paris", "Tokyo", "Cairo")]
    assert [tool["function"]["name"] for tool in json.loads(row["tools"])] == ["get_weather"]


def test_trl_rewards_say_nothing_where_there_is_no_verdict(run: Path, tmp_path: Path) -> None:
    export(run, trl.export, tmp_path / "out", NO_VALIDATION)
    row = load(tmp_path / "out/train.jsonl")[0]
    blind = json.loads(row["pivotrl_turn"])
    blind["messages"][-1] = {"role": "assistant", "content": ""}
    answer = row["completion"]
    rewards = trl_reward("tool_call")(
        completions=[answer, [{"role": "assistant", "content": WRONG}], answer],
        pivotrl_turn=[row["pivotrl_turn"], row["pivotrl_turn"], json.dumps(blind)],
        prompts=[row["prompt"]] * 3,
    )
    assert rewards == [1.0, 0.0, None]
    with pytest.raises(ValueError, match="no verdict at .*no_expected_action"):
        RowReward("tool_call").number("x", json.dumps(blind))
    assert RowReward("tool_call", no_verdict=0.5).number("x", json.dumps(blind)) == 0.5


def test_calls_that_a_stack_has_parsed_count_like_those_in_the_text(run: Path, tmp_path: Path) -> None:
    export(run, trl.export, tmp_path / "out", NO_VALIDATION)
    rows = {row["pivotrl_turn_id"]: row for row in load(tmp_path / "out/train.jsonl")}
    turn = rows["parallel_tool_calls-2#2"]["pivotrl_turn"]
    calls = [{"function": {"name": "get_stock_price", "arguments": {"ticker": t}}} for t in ("AMD", "NVDA")]
    reward = RowReward("tool_call")
    assert reward.verdict({"content": None, "tool_calls": calls}, turn).reward == 1.0
    assert reward.verdict({"content": "", "tool_calls": calls[:1]}, turn).reason == "missing_tool_call"
    assert reward.verdict({"content": WRONG, "tool_calls": calls}, turn).reason == "tool_call_inside_text"
    assert reward.verdict({"content": "", "tool_calls": [{"function": {}}]}, turn).reason == "tool_call_is_malformed"


@pytest.mark.slow
@pytest.mark.parametrize("calls", ["text", "native"])
def test_datasets_loads_the_rows_and_changes_nothing(run: Path, tmp_path: Path, calls: Any) -> None:
    datasets = pytest.importorskip("datasets")

    def exporter(pivots: Any, folder: Path) -> Any:
        return trl.export(pivots, folder, calls=calls)

    export(run, exporter, tmp_path / "out", NO_VALIDATION)
    file = str(tmp_path / "out/train.jsonl")
    data = datasets.load_dataset("json", data_files=file, split="train", cache_dir=str(tmp_path / "cache"))
    rows = load(tmp_path / "out/train.jsonl")
    assert len(data) == len(rows)
    for loaded, row in zip(data, rows, strict=True):
        assert loaded == row


@pytest.mark.slow
def test_trl_trains_one_step_on_the_rows(tmp_path: Path) -> None:
    """GRPOTrainer and SFTTrainer of the real package, on a model of random weights."""
    pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")
    transformers = pytest.importorskip("transformers")
    from tiny import save_tiny_model

    logs = [t for t in real_trajectories() if t.id.startswith("parallel")]
    export(make_run(tmp_path / "run", logs), trl.export, tmp_path / "out", NO_VALIDATION)
    file = str(tmp_path / "out/train.jsonl")
    data = datasets.load_dataset("json", data_files=file, split="train", cache_dir=str(tmp_path / "cache"))
    folder = str(save_tiny_model(tmp_path / "tiny"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    import trl as stack

    seen: list[list[float | None]] = []
    ours = trl_reward("pivotrl.verifiers.tool_call:verify")

    def reward(completions: Any, **columns: Any) -> list[float | None]:
        seen.append(ours(completions, **columns))
        return seen[-1]

    common = {
        "output_dir": str(tmp_path / "trained"),
        "max_steps": 1,
        "report_to": "none",
        "use_cpu": True,
        "per_device_train_batch_size": 2,
        "gradient_checkpointing": False,
        "bf16": False,
    }
    trainer = stack.GRPOTrainer(
        model=folder,
        reward_funcs=reward,
        args=stack.GRPOConfig(**common, num_generations=2, max_completion_length=4),
        train_dataset=data,
        processing_class=tokenizer,
    )
    trainer.train()
    assert [len(rewards) for rewards in seen] == [2]
    assert all(value in (0.0, 1.0) for value in seen[0])
    trainer = stack.SFTTrainer(
        model=folder, args=stack.SFTConfig(**common, max_length=None), train_dataset=data, processing_class=tokenizer
    )
    batch = trainer.data_collator([trainer.train_dataset[0]])
    learned = batch["labels"][0][batch["labels"][0] != -100]
    assert tokenizer.decode(learned).startswith(data[0]["completion"][0]["content"])
    trainer.train()


# --- the others ---------------------------------------------------------------------------------------------------


def test_verl_rows_have_the_columns_it_reads(run: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    export(run, exporter_of("verl"), tmp_path / "out", ExportOptions(validation_fraction=0.3))
    tables = {split: parquet.read_table(tmp_path / f"out/{split}.parquet") for split in ("train", "validation")}
    assert tables["train"].schema == tables["validation"].schema
    for split, table in tables.items():
        for number, row in enumerate(table.to_pylist()):
            assert row.keys() == {"data_source", "prompt", "ability", "reward_model", "extra_info", "agent_name"}
            assert row["reward_model"]["style"] == "rule" and row["agent_name"] == "single_turn_agent"
            assert json.loads(row["reward_model"]["ground_truth"])["role"] == "assistant"
            assert (row["extra_info"]["split"], row["extra_info"]["index"]) == (split, number)
    reward = import_file(tmp_path / "out/reward.py").compute_score
    row = tables["train"].to_pylist()[0]
    asked = {
        "data_source": "pivotrl",
        "ground_truth": row["reward_model"]["ground_truth"],
        "extra_info": row["extra_info"],
    }
    expert = action_text(turn_of_row(row["extra_info"]["pivotrl_turn"]).expected_action)
    assert reward(solution_str=expert, **asked) == 1.0
    assert reward(solution_str=WRONG, reward_router_address=None, **asked) == 0.0


# --- configurations -----------------------------------------------------------------------------------------------

TRAINED = TrainingOptions(
    num_steps=7,
    turns_per_step=3,
    group_size=4,
    learning_rate=5e-5,
    warmup_steps=2,
    decay="linear",
    clip_low=0.1,
    clip_high=0.3,
    kl_coefficient=0.01,
    loss_level="sequence",
    num_epochs=2,
    train_temperature=0.9,
    train_max_tokens=33,
    train_seed=5,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a training of its own options, with an adapter of rank 8."""
    run = make_run(tmp_path_factory.mktemp("trained"), real_trajectories())
    policy = {"policy": "hf(lora_rank=8, lora_alpha=24)", "model": "some/model"}
    begun = Manifest(
        stage="train",
        status="complete",
        options=options_dict(TRAINED),
        policy=policy,
        inputs={},
        counts={},
        versions={},
    )
    write_manifest(run / "train.manifest.json", begun)
    return run


def test_verls_own_configuration_has_every_name_of_ours(trained: Path, tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    (wheel,) = (Path(__file__).parents[1] / ".venv" / "oracles").glob("verl-*.whl")
    whole = zipfile.ZipFile(wheel).read("verl/trainer/config/_generated_ppo_trainer.yaml")
    known = yaml.safe_load(whole)
    export(trained, exporter_of("verl"), tmp_path / "out", NO_VALIDATION)
    ours = yaml.safe_load((tmp_path / "out/pivots.yaml").read_text())
    assert ours.pop("hydra") and ours.pop("defaults") == ["ppo_trainer", "_self_"]

    def require(mine: Any, theirs: Any, place: str) -> None:
        if isinstance(mine, dict):
            for name, value in mine.items():
                assert name in theirs, f"{place}{name}"
                require(value, theirs[name], f"{place}{name}.")
        elif theirs not in (None, "???") and not str(theirs).startswith("${"):
            assert type(mine) is type(theirs) or {type(mine), type(theirs)} == {int, float}, place

    require(ours, known, "")
    actor, rollout = ours["actor_rollout_ref"]["actor"], ours["actor_rollout_ref"]["rollout"]
    assert (ours["data"]["train_batch_size"], rollout["n"], ours["trainer"]["total_training_steps"]) == (3, 4, 7)
    assert actor["optim"]["lr"] == 5e-5 and actor["optim"]["lr_warmup_steps"] == 2 and actor["ppo_epochs"] == 2
    assert (actor["clip_ratio_low"], actor["clip_ratio_high"], actor["kl_loss_coef"]) == (0.1, 0.3, 0.01)
    assert actor["use_kl_loss"] is True and actor["loss_agg_mode"] == "seq-mean-token-mean"
    assert ours["actor_rollout_ref"]["model"] == {"path": "some/model", "lora_rank": 8, "lora_alpha": 24}
    assert ours["data"]["max_response_length"] == 33 and rollout["temperature"] == 0.9
    rows = len(list((tmp_path / "out").glob("train.parquet"))) and pivots_of(trained)
    assert ours["trainer"]["total_epochs"] * (rows // 3) >= 7, "enough passes for all steps"
    told = (tmp_path / "out/README.md").read_text()
    assert "schedule was linear" in told and "left the sample itself out" in told


def pivots_of(run: Path) -> int:
    return sum(row.selected for row in RunFiles(run).selections())


def test_the_configuration_for_trl_says_what_the_run_did(trained: Path, tmp_path: Path) -> None:
    stack = pytest.importorskip("trl")
    export(trained, exporter_of("trl"), tmp_path / "out", NO_VALIDATION)
    parser = stack.TrlParser((stack.GRPOConfig, stack.ModelConfig))
    words = ["--config", str(tmp_path / "out/grpo.yaml"), "--use_cpu", "true", "--bf16", "false"]
    settings, model = parser.parse_args_and_config(words)
    assert (settings.max_steps, settings.num_generations, settings.num_iterations) == (14, 4, 2)
    assert settings.per_device_train_batch_size * settings.gradient_accumulation_steps == 3 * 4
    assert settings.generation_batch_size == 3 * 4, "a step draws all of its groups at once"
    assert (settings.learning_rate, settings.warmup_steps, settings.beta) == (5e-5, 2, 0.01)
    assert (settings.epsilon, settings.epsilon_high, settings.loss_type) == (0.1, 0.3, "grpo")
    assert (settings.temperature, settings.max_completion_length, settings.seed) == (0.9, 33, 5)
    assert (model.model_name_or_path, model.lora_r, model.lora_alpha, model.lora_dropout) == ("some/model", 8, 24, 0.0)
    assert model.use_peft


def test_the_configuration_for_nemo_rl_says_what_the_run_did(trained: Path, tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    export(trained, nemo_gym.export, tmp_path / "out", NO_VALIDATION)
    ours = yaml.safe_load((tmp_path / "out/pivotrl_nemo_rl.yaml").read_text())
    grpo, loss, policy = ours["grpo"], ours["loss_fn"], ours["policy"]
    assert (grpo["num_prompts_per_step"], grpo["num_generations_per_prompt"], grpo["max_num_steps"]) == (3, 4, 7)
    assert grpo["use_leave_one_out_baseline"] is True and grpo["seed"] == 5
    assert (loss["ratio_clip_min"], loss["ratio_clip_max"], loss["reference_policy_kl_penalty"]) == (0.1, 0.3, 0.01)
    assert loss["token_level_loss"] is False and policy["train_global_batch_size"] == 12
    assert policy["model_name"] == "some/model" and policy["optimizer"]["kwargs"]["lr"] == 5e-5
    assert policy["dtensor_cfg"]["lora_cfg"] == {"enabled": True, "dim": 8, "alpha": 24}
    assert policy["generation"]["max_new_tokens"] == 33 and policy["generation"]["temperature"] == 0.9
    served = yaml.safe_load((tmp_path / "out/pivotrl.yaml").read_text())
    (rows,) = served["pivotrl_agent"]["responses_api_agents"]["tool_simulation_agent"]["datasets"]
    assert ours["data"]["train"]["data_path"].endswith(rows["jsonl_fpath"]), "the place that the README copies them to"
    assert "pivotrl used it 2 times" in (tmp_path / "out/README.md").read_text()


def test_a_run_without_a_training_gives_the_defaults(run: Path, tmp_path: Path) -> None:
    stack = pytest.importorskip("trl")
    export(run, exporter_of("trl"), tmp_path / "out", NO_VALIDATION)
    assert "put yours in place of `your/model`" in (tmp_path / "out/README.md").read_text()
    parser = stack.TrlParser((stack.GRPOConfig, stack.ModelConfig))
    words = ["--config", str(tmp_path / "out/grpo.yaml"), "--use_cpu", "true", "--bf16", "false"]
    settings, _ = parser.parse_args_and_config(words)
    defaults = TrainingOptions()
    assert settings.max_steps == defaults.num_steps and settings.loss_type == "dapo" and settings.learning_rate == 5e-5
    assert settings.gradient_accumulation_steps == defaults.turns_per_step


def test_imitation_says_nothing_about_a_policy_gradient(tmp_path: Path) -> None:
    found = settings_of({"method": "sft", "learning_rate": 2e-4, "num_steps": 3, "policy": "hf(lora_rank=0)"}, [])
    assert found.training == TrainingOptions() and found.learning_rate == 1e-6 and found.lora_rank == 0


def test_a_model_is_named_so_that_others_find_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    names = {"folder": str(tmp_path / "folder"), "some/id": "some/id"}
    names["smollm2-135m-instruct"] = "HuggingFaceTB/SmolLM2-135M-Instruct"
    for given, name in names.items():
        assert settings_of({"model": given}, []).model == name
    assert settings_of({"policy": "tabular"}, []).model is None


@pytest.mark.slow
def test_what_is_exported_for_trl_trains(tmp_path: Path) -> None:
    """As a user would start it: the script and the configuration, with a model of random weights."""
    pytest.importorskip("trl")
    from tiny import save_tiny_model

    logs = [t for t in real_trajectories() if t.id.startswith("parallel")]
    export(make_run(tmp_path / "run", logs), trl.export, tmp_path / "out", NO_VALIDATION)
    model = save_tiny_model(tmp_path / "tiny", max_positions=4096)
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    (model / "chat_template.jinja").write_text(template)
    words = ["--model_name_or_path", model, "--max_steps", "1", "--gradient_accumulation_steps", "1"]
    words += ["--per_device_train_batch_size", "2", "--num_generations", "2", "--max_completion_length", "4"]
    words += ["--use_cpu", "true", "--bf16", "false", "--report_to", "none", "--gradient_checkpointing", "false"]
    command = [sys.executable, "train.py", "--config", "grpo.yaml", *map(str, words)]
    done = subprocess.run(command, cwd=tmp_path / "out", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "out/out/adapter_model.safetensors").is_file()


def test_swift_rows_use_its_roles_and_never_give_the_answer_away(
    run: Path, tmp_path: Path, turns: dict[str, Turn]
) -> None:
    export(run, ms_swift.export, tmp_path / "out", NO_VALIDATION)
    prompts, answered = load(tmp_path / "out/train.jsonl"), load(tmp_path / "out/sft_train.jsonl")
    roles: set[str] = set()
    for row, full in zip(prompts, answered, strict=True):
        turn = turns[row["pivotrl_turn_id"]]
        roles |= {message["role"] for message in row["messages"]}
        answer = full["messages"][len(row["messages"]) :]
        assert full["messages"][: len(row["messages"])] == row["messages"]
        calls = [json.loads(message["content"]) for message in answer if message["role"] == "tool_call"]
        assert calls == [
            {"name": c.name, "arguments": json.loads(c.arguments)} for c in turn.expected_action.tool_calls
        ]
        assert bool(turn.trajectory.tools) == ("tools" in row)
        assert row["messages"][-1]["role"] in ("user", "tool_response")
    assert roles == {"system", "user", "assistant", "tool_call", "tool_response"}


def test_skyrl_rows_go_into_its_environment(run: Path, tmp_path: Path) -> None:
    export(run, skyrl.export, tmp_path / "out", NO_VALIDATION)
    row = load(tmp_path / "out/train.jsonl")[0]
    assert row.keys() == {"data_source", "prompt", "env_class", "reward_spec", "extra_info"}
    assert row["reward_spec"].keys() == {"method", "ground_truth"}
    pytest.importorskip("skyrl_gym")
    made = import_file(tmp_path / "out/main_pivotrl.py").PivotEnv(extras=row)
    expert = action_text(turn_of_row(row["extra_info"]["pivotrl_turn"]).expected_action)
    assert made.init(row["prompt"])[0] == row["prompt"]
    step = made.step(expert)
    assert (step["reward"], step["done"]) == (1.0, True)
    assert made.step(WRONG)["reward"] == 0.0


def test_verifiers_serves_the_rows_as_tasks(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export(run, verifiers.export, tmp_path / "out", NO_VALIDATION)
    rows = load(tmp_path / "out/train.jsonl")
    assert all(row.keys() == {"id", "prompt", "answer", "info"} for row in rows)
    stack = pytest.importorskip("verifiers.v1")
    traces = pytest.importorskip("verifiers.v1.trace")
    loaders = pytest.importorskip("verifiers.v1.utils.loaders")
    monkeypatch.syspath_prepend(str(tmp_path / "out"))
    monkeypatch.delitem(sys.modules, "pivotrl_pivots", raising=False)
    module = loaders.import_taskset("pivotrl_pivots")
    tasks = list(loaders.load_taskset(module.PivotConfig(id="pivotrl_pivots")))
    assert [task.key for task in tasks] == [row["id"] for row in rows]
    assert [message.role for message in tasks[0].data.prompt] == [m["role"] for m in rows[0]["prompt"]]
    assert isinstance(tasks[0], stack.Task)
    expert = action_text(turn_of_row(rows[0]["info"]["pivotrl_turn"]).expected_action)
    for reply, reward in ((expert, 1.0), (WRONG, 0.0)):
        trace = stack.Trace(
            task=traces.TraceTask(type="PivotTask", data=tasks[0].data),
            agent=traces.AgentInfo(config=stack.AgentConfig()),
            nodes=[stack.MessageNode(message=stack.AssistantMessage(content=reply), sampled=True)],
        )
        asyncio.run(tasks[0].score(trace))
        assert trace.reward == reward
