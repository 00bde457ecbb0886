"""An import keeps, supplies, drops and refuses, and says so: nothing disappears without a reason."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pivotrl.protocols import InputError
from pivotrl.protocols.observing import Observer
from pivotrl.readers import auto, chat, tau_bench
from pivotrl.reading.alternatives import with_alternatives
from pivotrl.reading.importing import ReadOptions
from pivotrl.records import Action, Dropped, Refusal, Trajectory
from pivotrl.runs.manifest import read_manifest, write_manifest
from pivotrl.stages.reading import read_stage
from pivotrl.storage.record_files import read_records

DATA = Path(__file__).parent / "data"
TAU = DATA / "tau_bench" / "gpt-4o-airline.json"
ALL = ReadOptions(heldout_fraction=0.0)


def row(
    number: int, *, reward: float | None = 1.0, system: bool = True, answer: str = "", **more: Any
) -> dict[str, Any]:
    """A chat log of one question and one answer, unlike any other number's."""
    words = " ".join(f"word{number}x{i}" for i in range(30))
    messages = [{"role": "user", "content": words}, {"role": "assistant", "content": answer or f"answer {number}"}]
    if system:
        messages = [{"role": "system", "content": "be brief"}, *messages]
    return {"id": f"t{number}", "task_id": f"task{number}", "reward": reward, "messages": messages, **more}


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in rows))
    return path


def imported(
    tmp_path: Path, rows: list[Any], options: ReadOptions = ALL
) -> tuple[list[Trajectory], dict[str, Any], Path]:
    """(kept trajectories, counts of the manifest, run directory)"""
    run = tmp_path / "run"
    read_stage(str(write(tmp_path / "log.jsonl", rows)), run, reader=chat.read, reading=options)
    return read_records(run / "trajectories.jsonl", Trajectory), read_manifest(run / "read.manifest.json").counts, run


def test_every_record_is_kept_dropped_or_refused(tmp_path: Path) -> None:
    copy = {**row(0), "id": "again"}
    rows = [row(0), row(1), row(2, reward=0.0), row(3, reward=None), copy, "{bad", {"messages": 5}]
    kept, counts, run = imported(tmp_path, rows)
    assert [t.id for t in kept] == ["t0", "t1", "t3"]
    assert {d.trajectory_id: d.reason for d in read_records(run / "dropped.jsonl", Dropped)} == {
        "t2": "low_reward",
        "again": "exact_copy",
    }
    refused = read_records(run / "refused.jsonl", Refusal)
    assert [r.place.partition(" (")[0] for r in refused] == [f"{tmp_path / 'log.jsonl'}:{n}" for n in (6, 7)]
    assert (counts["read"], counts["refused"], counts["dropped"]) == (5, 2, {"low_reward": 1, "exact_copy": 1})
    assert counts["losses"] == {"reward_unknown": 1}
    assert (counts["turns"], counts["candidates"]) == (3, 3)


def test_copies_stay_when_asked(tmp_path: Path) -> None:
    kept, counts, _ = imported(
        tmp_path, [row(0), {**row(0), "id": "again"}], ReadOptions(heldout_fraction=0.0, duplicates="keep")
    )
    assert [t.id for t in kept] == ["t0", "again"] and counts["duplicates"] == {"exact": 1}


def test_the_beginning_of_another_trajectory_is_dropped_when_it_comes_after(tmp_path: Path) -> None:
    longer = row(0)
    longer["messages"] = [
        *longer["messages"],
        {"role": "user", "content": "more"},
        {"role": "assistant", "content": "x"},
    ]
    kept, counts, _ = imported(tmp_path, [longer, {**row(0), "id": "start"}])
    assert [t.id for t in kept] == ["t0"] and counts["dropped"] == {"prefix_copy": 1}


def test_turns_of_an_earlier_shorter_copy_are_no_candidates_again(tmp_path: Path) -> None:
    longer = {**row(0), "id": "longer"}
    longer["messages"] = [
        *longer["messages"],
        {"role": "user", "content": "more"},
        {"role": "assistant", "content": "x"},
    ]
    kept, counts, _ = imported(tmp_path, [row(0), longer])
    assert [(t.id, t.excluded) for t in kept] == [("t0", {}), ("longer", {2: "duplicate_turn"})]
    assert counts["candidates"] == 2


def test_a_repeated_id_gets_a_number(tmp_path: Path) -> None:
    kept, _, _ = imported(tmp_path, [row(0), {**row(1), "id": "t0"}])
    assert [t.id for t in kept] == ["t0", "t0~2"]


def test_a_system_message_is_supplied_where_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "policy.md").write_text("Follow the policy.")
    rows = [row(0, system=False), row(1)]
    rows[0]["messages"].append({"role": "assistant", "content": ""})
    kept, counts, _ = imported(tmp_path, rows, ReadOptions(heldout_fraction=0.0, system=tmp_path / "policy.md"))
    assert [t.messages[0].content for t in kept] == ["Follow the policy.", "be brief"]
    assert kept[0].excluded == {3: "empty_action"} and kept[1].excluded == {}
    assert counts["losses"] == {"system_supplied": 1}


def test_accepted_actions_keep_their_place_when_a_system_message_is_supplied(tmp_path: Path) -> None:
    (tmp_path / "policy.md").write_text("be kind")
    rows = [row(0, system=False), row(1, system=False)]
    place = next(i for i, message in enumerate(rows[0]["messages"]) if message["role"] == "assistant")
    rows[0]["accepted_actions"] = {str(place): [{"role": "assistant", "content": "so, too"}]}
    kept, _, _ = imported(tmp_path, rows, ReadOptions(heldout_fraction=0.0, system=tmp_path / "policy.md"))
    first = next(t for t in with_alternatives(kept) if t.alternatives)
    assert first.messages[0].content == "be kind" and first.messages[place + 1].role == "assistant"
    assert first.alternatives == {place + 1: (Action(content="so, too"),)}


def test_tools_are_supplied_or_inferred_and_marked(tmp_path: Path) -> None:
    call = {"type": "function", "id": "c", "function": {"name": "find", "arguments": '{"city": "Rome", "n": 2}'}}
    rows = [row(0), row(1)]
    for item in rows:
        item["messages"][-1] |= {"tool_calls": [call]}
    (tmp_path / "a").mkdir()
    inferred, counts, _ = imported(tmp_path / "a", rows)
    assert inferred[0].tools_inferred and counts["losses"] == {"tools_inferred": 2}
    assert inferred[0].tools[0].parameters["properties"] == {"city": {"type": "string"}, "n": {"type": "integer"}}
    (tmp_path / "tools.json").write_text(json.dumps([{"type": "function", "function": {"name": "find"}}]))
    (tmp_path / "b").mkdir()
    given, counts, _ = imported(tmp_path / "b", rows, ReadOptions(heldout_fraction=0.0, tools=tmp_path / "tools.json"))
    assert [tool.name for tool in given[0].tools] == ["find"] and not given[0].tools_inferred
    assert counts["losses"] == {"tools_supplied": 2}
    (tmp_path / "c").mkdir()
    bare, counts, _ = imported(tmp_path / "c", rows, ReadOptions(heldout_fraction=0.0, infer_tools=False))
    assert bare[0].tools == () and counts["losses"] == {"tools_missing": 2}


SCHEMA = {"type": "object", "properties": {"q": {"type": "string"}}}


@pytest.mark.parametrize(
    ("value", "parameters"),
    [
        ([{"type": "function", "function": {"name": "find", "parameters": SCHEMA}}], SCHEMA),
        ([{"name": "find", "parameters": SCHEMA, "strict": True}], SCHEMA),
        ({"tools": [{"name": "find", "parameters": SCHEMA}]}, SCHEMA),
        ({"jsonrpc": "2.0", "id": 1, "result": {"tools": [{"name": "find", "parameters": SCHEMA}]}}, SCHEMA),
        ([{"functionDeclarations": [{"name": "find", "parameters": SCHEMA}]}], SCHEMA),
        ({"name": "find", "parameters": SCHEMA}, SCHEMA),
        ([{"name": "find", "description": "Find it", "parameters": None}], {}),
        ([{"name": "find"}], {}),
    ],
)
def test_a_file_of_tools_may_have_any_usual_shape(value: object, parameters: object, tmp_path: Path) -> None:
    path = tmp_path / "tools.json"
    path.write_text(json.dumps(value))
    trajectories, _, _ = imported(tmp_path, [row(0)], ReadOptions(heldout_fraction=0.0, tools=path))
    assert [(tool.name, tool.parameters) for tool in trajectories[0].tools] == [("find", parameters)]


@pytest.mark.parametrize("key", ["inputSchema", "input_schema", "parametersJsonSchema"])
def test_a_tools_arguments_are_read_or_refused_and_never_lost(key: str, tmp_path: Path) -> None:
    path = tmp_path / "tools.json"
    path.write_text(json.dumps([{"name": "find", key: SCHEMA}]))
    try:
        trajectories, _, _ = imported(tmp_path, [row(0)], ReadOptions(heldout_fraction=0.0, tools=path))
    except InputError as error:
        assert key in str(error)
    else:
        assert trajectories[0].tools[0].parameters == SCHEMA


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("tools", "{bad", "is not JSON"),
        ("tools", "[5]", "contains no tool schemas"),
        ("tools", "[]", "contains no tool"),
        ("tools", '[{"name": "find", "arg_spec": {"q": "text"}}]', "the tool find has no arguments .*'arg_spec'"),
        ("tools", '{"find": {"parameters": {}}}', "name is missing"),
        ("tools", None, "does not exist"),
        ("system", " \n", "is empty"),
        ("system", None, "cannot be read"),
    ],
)
def test_a_file_that_cannot_supply_is_named(name: str, text: str | None, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "given"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=fault) as caught:
        imported(tmp_path, [row(0)], ReadOptions(**{name: path}))  # type: ignore[arg-type]
    assert "given" in str(caught.value)


def test_secrets_are_counted_and_replaced_only_when_asked(tmp_path: Path) -> None:
    address = "jane.doe" + "@" + "corp-mail.net"
    rows = [row(0, answer=f"write to {address}"), row(1, answer=f"it was {address} again")]
    (tmp_path / "a").mkdir()
    kept, counts, run = imported(tmp_path / "a", rows)
    assert counts["secrets"] and address in (run / "trajectories.jsonl").read_text()
    (tmp_path / "b").mkdir()
    kept, counts, run = imported(tmp_path / "b", rows, ReadOptions(heldout_fraction=0.0, redact=True))
    assert counts["secrets"] and all(address not in path.read_text() for path in run.rglob("*.jsonl"))
    replaced = [(t.messages[-1].content or "").split() for t in kept]
    assert replaced[0][2] == replaced[1][2] != address
    assert not (run / ".redaction_key").exists()


def test_a_split_stays_when_data_is_added(tmp_path: Path) -> None:
    def heldout(number: int) -> set[str]:
        folder = tmp_path / str(number)
        folder.mkdir()
        read_stage(str(write(folder / "log.jsonl", [row(i) for i in range(number)])), folder / "run", reader=chat.read)
        return {t.id for t in read_records(folder / "run" / "heldout.jsonl", Trajectory)}

    few, many = heldout(30), heldout(60)
    assert few and few == {name for name in many if int(name[1:]) < 30}


def test_a_task_with_a_secret_in_its_name_stays_on_its_side(tmp_path: Path) -> None:
    """A redacted name is another one in every import."""

    def heldout(folder: Path, redact: bool) -> set[str]:
        rows = [row(number, task_id=f"mail jane.doe{number}" + "@" + "corp-mail.net") for number in range(30)]
        folder.mkdir()
        options = ReadOptions(heldout_fraction=0.3, redact=redact)
        read_stage(str(write(folder / "log.jsonl", rows)), folder / "run", reader=chat.read, reading=options)
        found = read_records(folder / "run" / "heldout.jsonl", Trajectory)
        assert all(("EMAIL" in trajectory.task_id) == redact for trajectory in found)
        return {trajectory.id for trajectory in found}

    plain = heldout(tmp_path / "plain", False)
    assert 0 < len(plain) < 30
    assert heldout(tmp_path / "first", True) == heldout(tmp_path / "second", True) == plain


def test_an_interrupted_import_goes_on_to_the_same_files(tmp_path: Path) -> None:
    rows = [row(i, reward=float(i % 5 != 0)) for i in range(700)] + ["{bad"]
    path = write(tmp_path / "log.jsonl", rows)
    read_stage(str(path), tmp_path / "whole", reader=chat.read)

    class Stop(Observer):
        def progress(self, kind: str, done: int, total: int, note: str = "") -> None:
            if done > 300:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_stage(str(path), tmp_path / "cut", reader=chat.read, observer=Stop())
    assert not (tmp_path / "cut" / "refused.jsonl").exists()
    read_stage(str(path), tmp_path / "cut", reader=chat.read)
    for name in ("trajectories", "heldout", "dropped", "refused"):
        assert (tmp_path / "cut" / f"{name}.jsonl").read_bytes() == (tmp_path / "whole" / f"{name}.jsonl").read_bytes()


def test_nothing_usable_is_said_with_the_first_fault(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"2 refused; the first: .*log\.jsonl:1 .* is not JSON"):
        imported(tmp_path, ["{bad", "[1,"])


# --- telling formats apart ----------------------------------------------------------------------------------------


def test_a_directory_of_several_formats_is_read_file_by_file(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    (logs / "deep").mkdir(parents=True)
    write(logs / "chat.jsonl", [row(0), row(1)])
    (logs / "deep" / "airline.json").write_bytes(TAU.read_bytes())
    (logs / "notes.txt").write_text("nothing to see")
    (logs / "outside").symlink_to(tmp_path)
    items = list(auto.read(logs))
    formats = {t.metadata["format"] for t in items if isinstance(t, Trajectory)}
    assert formats == {"chat", "tau_bench"}
    refused = [item.place for item in items if isinstance(item, Refusal)]
    assert refused == [f"{logs / 'notes.txt'}:1", str(logs / "outside")]
    expected = [t for t in tau_bench.read(TAU) if isinstance(t, Trajectory)]
    assert len([t for t in items if isinstance(t, Trajectory)]) == 2 + len(expected)


def test_unknown_content_names_the_formats_there_are(tmp_path: Path) -> None:
    told = r"in an unknown format: its first object has the keys 'colour'; one object a line, such as .*formats.md"
    with pytest.raises(InputError, match=told):
        list(auto.read(write(tmp_path / "log.jsonl", [{"colour": "blue"}])))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="contains no file"):
        list(auto.read(tmp_path / "empty"))


def test_where_every_task_would_be_held_out_one_is_trained_on_and_stays_there(tmp_path: Path) -> None:
    options = ReadOptions(heldout_fraction=0.99)
    rows = [row(0), row(1), {**row(2), "task_id": "task1"}]
    kept, counts, run = imported(tmp_path, rows, options)
    heldout = read_records(run / "heldout.jsonl", Trajectory)
    assert {t.task_id for t in kept} | {t.task_id for t in heldout} == {"task0", "task1"}
    assert not {t.task_id for t in kept} & {t.task_id for t in heldout} and len(kept) + len(heldout) == 3
    assert (counts["train_tasks"], counts["heldout_trajectories"]) == (1, len(heldout))
    manifest = read_manifest(run / "read.manifest.json")  # as if it had been interrupted just before it was done
    write_manifest(run / "read.manifest.json", manifest.model_copy(update={"status": "running", "outputs": None}))
    read_stage(str(tmp_path / "log.jsonl"), run, reader=chat.read, reading=options)
    assert read_records(run / "trajectories.jsonl", Trajectory) == kept
    assert read_manifest(run / "read.manifest.json").counts["train_tasks"] == 1
    (tmp_path / "all").mkdir()
    with pytest.raises(InputError, match="--heldout-fraction must be less than 1"):
        imported(tmp_path / "all", [row(0), row(1)], ReadOptions(heldout_fraction=1.0))


def test_reading_a_log_loads_no_game_and_no_model(tmp_path: Path) -> None:
    """They cost seconds, and some are not installed."""
    code = (
        "import sys; from pivotrl.cli import main\n"
        f"main(['read', {str(TAU)!r}, '-o', {str(tmp_path / 'run')!r}])\n"
        "print([name for name in ('torch', 'transformers', 'textworld', 'tau2', 'bfcl_eval') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
