"""`pivotrl view`: what the page holds, that logs are data there, and what it says when something is missing.

Run alone: python -m pytest tests/test_view.py
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from pivotrl import EvaluationOptions, ProfileOptions, TrainingOptions, run
from pivotrl.cli.choices import PolicyChoice
from pivotrl.cli.prompting import prompting_of
from pivotrl.policies import hf
from pivotrl.policies.tabular import Policy
from pivotrl.protocols import InputError, Turn
from pivotrl.readers.chat import read
from pivotrl.records import Action, Completion, Label, Message, SampleGroup, ToolCall, Trajectory, TurnResult, Verdict
from pivotrl.report.browser import ViewOptions, words, write_view
from pivotrl.report.browser.joining import join
from pivotrl.report.browser.logs import trajectory_text
from pivotrl.report.browser.packing import Chunks, json_text
from pivotrl.report.browser.prompts import Prompts, common_prefix, utf16_length
from pivotrl.report.browser.samples import Drawn, Draws, nearest, turn_samples
from pivotrl.report.browser.shortening import short_act
from pivotrl.report.browser.views import Views
from pivotrl.runs.files import RunFiles
from pivotrl.runs.manifest import manifest_path, read_manifest, write_manifest
from pivotrl.stages.profiling import profile_stage
from pivotrl.stages.reading import read_stage
from pivotrl.storage.record_files import RecordFile, read_records
from pivotrl.verifiers.exact import verify
from test_cli import call, refused
from test_comparison_view import compared
from test_pipeline import write_logs
from tiny import save_tiny_model
from view_pages import Page, tags_of, template, unpacked

sys.path.insert(0, str(Path(__file__).parent / "plugins"))

import guessing_pictures

PAGE = (Path(__file__).parents[1] / "docs" / "viewing.md").read_text()
HOSTILE = (
    "</script><script>alert(1)</script>",
    "<!--<script>",
    '"><img src=x onerror=alert(2)>',
    "\x1b[31mred\x1b[0m\x07",
    "[link](javascript:alert(3)) **bold** `code`",
    "line\u2028separator\u2029here &lt; &amp; <b>",
    "\u202ereversed\u202c and \U0001f600\U0001f9ea",
    '=HYPERLINK("http://x")',
    "<!--pivotrl:data--><!--pivotrl:csp-->",
    "\ufeff\x7f\x00nul",
)


def made(folder: Path, **changes: Any) -> Path:
    """A finished run with episodes."""
    given: dict[str, Any] = {
        "reader": read,
        "verifier": verify,
        "policy": Policy(),
        "profiling": ProfileOptions(num_samples=6),
        "training": TrainingOptions(num_steps=3, turns_per_step=4, group_size=4, learning_rate=2.0),
        "evaluation": EvaluationOptions(turn_temperature=1.0, turn_samples=5, eval_temperature=1.0),
        "environments": {"guessing_pictures": lambda: guessing_pictures.make_environments(highest=3)},
    }
    run(str(write_logs(folder / "logs.jsonl", 10)), folder / "run", **(given | changes))
    return folder / "run"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("finished"))


@pytest.fixture(scope="module")
def page(finished: Path) -> Page:
    return Page(write_view(finished, finished.parent / "view.html"))


# --- what the page holds ------------------------------------------------------------------------------------------


def test_every_turn_of_the_logs_is_there_once_with_why_it_is_a_pivot_or_not(page: Page, finished: Path) -> None:
    files = RunFiles(finished)
    logs = [*files.logged(), *files.logged_heldout()]
    ids = page.turn_ids()
    of_logs = [turn for turn in ids if not turn.startswith("evaluation/")]
    assert of_logs == [f"{log.id}#{i}" for log in logs for i, m in enumerate(log.messages) if m.role == "assistant"]
    chosen = {row.turn_id: row for row in files.selected()}
    for number, turn in enumerate(of_logs):
        if turn in chosen:
            assert page.status(number) == chosen[turn].reason
            assert page.index["turns"]["pivot"][number] == chosen[turn].selected
        else:
            assert page.status(number) == "held_out"
    assert {page.status(number) for number in range(len(ids))} <= set(page.head["explain"]["statuses"])
    rows = page.index["trajectories"]
    assert rows["num_turns"] and sum(rows["num_turns"]) == len(ids)
    assert page.trajectory(0)["messages"][1]["content"] == logs[0].messages[1].content


def test_the_samples_of_the_profile_are_all_there_with_their_verdicts(page: Page, finished: Path) -> None:
    groups = {group.turn_id: group for group in read_records(finished / "profiles.jsonl", SampleGroup)}
    results = page.results("profile")
    assert results.keys() == groups.keys()
    for turn, row in results.items():
        group = groups[turn]
        assert row["passed"] == sum(verdict.outcome == "pass" for verdict in group.verdicts_G)
        assert row["passed"] + row["failed"] + row["unknown"] == 6
        assert row["mean"] == pytest.approx(group.mean, abs=1e-6)
        actions = row["samples"]["actions"]
        assert sorted(sample["number"] for action in actions for sample in action["samples"]) == list(range(6))
        assert [action["count"] for action in actions] == sorted((a["count"] for a in actions), reverse=True)
        contents = [action["act"]["content"] for action in actions]
        assert len(set(contents)) == len(contents)  # equal actions are together
        for action in actions:
            for sample in action["samples"]:
                completion, verdict = group.completions_G[sample["number"]], group.verdicts_G[sample["number"]]
                assert completion.action.content == action["act"]["content"]
                assert (verdict.outcome, verdict.reward) == (action["outcome"], action["reward"])
                assert page.index["codes"][action["reason"]] == verdict.reason
        assert row["samples"]["expected"]["content"].startswith("answer ")


def test_evaluations_keep_every_sample_and_are_compared_turn_by_turn(page: Page, finished: Path) -> None:
    before, after = page.results("evaluation/before@1"), page.results("evaluation/after@1")
    assert before and before.keys() == after.keys()
    told = {result.turn_id: result for result in RunFiles(finished).turn_results("after")}
    for turn, row in after.items():
        assert sum(action["count"] for action in row["samples"]["actions"]) == 5
        assert row["mean"] == pytest.approx(told[turn].reward, abs=1e-6)
    titles = {(page.sources[old], page.sources[new]) for old, new, _ in page.head["pairs"]}
    assert titles == {("evaluation/before@1", "evaluation/after@1"), ("profile", "training/train")}


def test_the_history_of_a_turn_in_training_is_told_by_step(page: Page, finished: Path) -> None:
    groups = read_records(finished / "train" / "groups.jsonl", SampleGroup)
    steps: dict[str, set[int | None]] = {}
    for group in groups:
        steps.setdefault(group.turn_id, set()).add(group.step)
    ids = page.turn_ids()
    assert {turn: n for turn, n in zip(ids, page.index["turns"]["steps"], strict=True) if n} == {
        turn: len(found) for turn, found in steps.items()
    }
    for turn, row in page.results("training/train").items():
        seen = [sample["step"] for action in row["samples"]["actions"] for sample in action["samples"]]
        assert set(seen) == steps[turn] and len(seen) == 4 * len(steps[turn])


def test_episodes_are_played_back_turn_by_turn(page: Page, finished: Path) -> None:
    results = list(RunFiles(finished).episode_results("after"))
    rows = page.index["trajectories"]
    source = page.sources.index("evaluation/after episodes@1")
    places = [n for n, split in enumerate(rows["split"]) if split == "episode" and rows["source"][n] == source]
    assert len(places) == len(results) == 3
    for place, result in zip(places, results, strict=True):
        assert (rows["reward"][place], rows["note"][place]) == (result.reward, result.reason)
        assert [m["content"] for m in page.trajectory(place)["messages"]] == [m.content for m in result.transcript]
        turns = range(rows["first_turn"][place], rows["first_turn"][place] + rows["num_turns"][place])
        assert [page.index["turns"]["message"][turn] for turn in turns] == [turn.index for turn in result.turns]
    assert rows["id"][places[0]] == "evaluation/after episodes@1: guessing_pictures/secret-1~0"
    sampled = page.results("evaluation/after episodes@1")
    assert sum(len(row["samples"]["actions"]) for row in sampled.values()) == sum(r.num_turns for r in results)


def test_a_training_at_own_states_is_shown_at_its_episodes(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    doors = "test_own_states_method"
    given = [
        "--policy",
        "tabular",
        "--verifier",
        f"{doors}:opens",
        "--train-environments",
        f"{doors}:make_environments",
    ]
    given += ["--method", "own_states(tasks_per_step=2, states_per_step=4)", "--num-steps", 2, "--group-size", 4]
    assert call("train", run, "--name", "own", *given) == 0
    page = Page(write_view(run))
    groups = read_records(run / "trainings" / "own" / "groups.jsonl", SampleGroup)
    practised, played = page.results("training/own"), page.results("training/own episodes")
    assert groups and len(practised) == len({group.turn_id for group in groups}) and practised.keys() <= played.keys()
    assert sum(row["passed"] + row["failed"] for row in practised.values()) == sum(len(g.completions_G) for g in groups)
    assert all(row["samples"]["expected"] == {"content": None, "calls": []} for row in practised.values())
    assert all(len(row["samples"]["actions"]) == 1 for row in played.values())


def test_trajectories_may_be_called_as_keys_of_steps_and_samples_are(tmp_path: Path) -> None:
    lines = write_logs(tmp_path / "plain.jsonl", 4).read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    names = ["12/log", "a#3~4", "7/b#1", "c"]
    (tmp_path / "logs.jsonl").write_text(
        "".join(json.dumps(r | {"id": n}) + "\n" for r, n in zip(rows, names, strict=True))
    )
    assert call("read", tmp_path / "logs.jsonl", "-o", tmp_path / "run", "--heldout-fraction", 0) == 0
    profile_stage(tmp_path / "run", sampler=Policy(), verifier=verify, profiling=ProfileOptions(num_samples=2))
    page = Page(write_view(tmp_path / "run"))
    assert page.results("profile").keys() == {f"{name}#{index}" for name in names for index in (2, 4, 6)}


def test_equal_wrong_actions_of_several_turns_are_counted_together(tmp_path: Path) -> None:
    page = Page(write_view(made(tmp_path, policy=_Stubborn(), environments=None)))
    cluster = page.index["clusters"][page.sources.index("profile")]
    assert cluster["act"]["content"].strip() == "always this" and len(cluster["turns"]) > 5
    failed = [row["failed"] for row in page.results("profile").values()]
    assert cluster["count"] == sum(failed)


class _Stubborn(Policy):
    def menu(self, turn: Turn) -> tuple[Action, ...]:
        right, *others = super().menu(turn)
        return (right, *(Action(content="always this" + " " * n) for n in range(len(others))))


def test_a_long_action_in_a_list_is_short_and_still_json() -> None:
    long = {"path": "a.py", "text": "x" * 5000, "lines": list(range(3000)), "deep": {"why": "y" * 900}}
    call = ToolCall(name="edit", arguments=json.dumps(long))
    (shown,) = short_act(Action(content="z" * 5000, tool_calls=(call,)))["calls"]
    told = json.loads(shown["arguments"])
    assert told["path"] == "a.py" and told["text"].endswith("x…") and len(shown["arguments"]) < 2000
    assert told["lines"][-1] == "… 2,980 more" and told["deep"]["why"].endswith("…")
    broken = short_act(Action(tool_calls=(ToolCall(name="edit", arguments="{" * 2000),)))["calls"][0]["arguments"]
    assert len(broken) == 600 and broken.endswith("…")


def test_the_same_files_give_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    first, second = (write_view(finished, tmp_path / name).read_bytes() for name in ("a.html", "b.html"))
    assert first == second
    shutil.copytree(finished, tmp_path / "run")
    assert write_view(tmp_path / "run").read_bytes() == first


# --- equal actions, and what they resemble ------------------------------------------------------------------------


def called(name: str, **arguments: Any) -> Action:
    return Action(tool_calls=(ToolCall(name=name, arguments=json.dumps(arguments)),))


def test_the_nearest_right_action_is_one_that_calls_the_same_tool() -> None:
    wrong = called("refund", order="W17", amount=12.5)
    right = [called("ship", order="W17", amount=12.5), called("refund", order="W18", reason="late")]
    assert nearest(wrong, right) == 0  # the first alternative, though the expected action has more words in common
    assert nearest(called("find", order="W18"), right) in (-1, 0)
    assert nearest(Action(content="Sorry"), right[:1]) == -1
    assert nearest(wrong, []) == nearest(Action(), right) == -2
    assert nearest(called("refund", order="W18", reason="lost"), [called("refund", order="W9"), *right]) == 1


def drawn(action: Action, text: str, verdict: Verdict, **facts: Any) -> Drawn:
    completion = Completion(action=action, text=text, token_ids_T=(1, 2), logprobs_T=(-0.5, -1.0), **facts)
    return Drawn(completion, verdict, 0)


def test_actions_are_equal_whatever_their_spelling_and_unequal_when_judged_differently() -> None:
    spellings = [
        Action(tool_calls=(ToolCall(name="f", arguments=text),)) for text in ('{"a": 1, "b": 2}', '{"b":2,"a":1}')
    ]
    failed, unknown = Verdict.failed("wrong_tool", path="f", text="é" * 9000), Verdict.unknown("verifier_timeout")
    stop: dict[str, Any] = {"finish_reason": "stop"}
    samples = [drawn(spellings[0], "one", failed, **stop), drawn(spellings[1], "two", failed, **stop)]
    samples.append(drawn(spellings[1], "two", unknown, **stop))
    samples.append(drawn(Action(), "{", Verdict.failed("x"), parse_error="tool_call_is_not_json", **stop))
    samples.append(drawn(Action(content="half"), "half", Verdict.failed("wrong", reward=0.5), **stop))
    found = turn_samples(called("f", a=3), [], Draws(samples), len)
    assert [(a["count"], a["outcome"], a["nearest"]) for a in found["actions"]] == [
        (2, "fail", -1),
        (1, "no_verdict", -1),
        (1, "fail", -2),
        (1, "partial", -1),
    ]
    first = found["actions"][0]
    assert first["text"] == "one" and [s.get("text") for s in first["samples"]] == [None, "two"]
    assert first["detail"].startswith("at f; text é") and len(first["detail"]) <= 600
    assert found["actions"][2]["samples"][0]["error"] == "tool_call_is_not_json"


# --- logs are data ------------------------------------------------------------------------------------------------


def hostile_logs(path: Path) -> Path:
    with path.open("w") as file:
        for number, text in enumerate(HOSTILE):
            turns = [{"role": "user", "content": text}, {"role": "assistant", "content": f"{text} {number}"}]
            row = {"id": f"{text}-{number}", "task_id": f"t{number}", "messages": turns * 2, "reward": 1.0}
            file.write(json.dumps(row) + "\n")
    return path


def test_hostile_logs_stay_data(tmp_path: Path) -> None:
    out = tmp_path / "a&b <run>"
    few = {
        "profiling": ProfileOptions(num_samples=3),
        "training": TrainingOptions(num_steps=1, turns_per_step=2, group_size=2),
    }
    run(str(hostile_logs(tmp_path / "logs.jsonl")), out, reader=read, verifier=verify, policy=Policy(), **few)
    path = write_view(out)
    page = Page(path)
    plain = tags_of(template())
    assert page.parsed.code == plain.code  # no script but the template's own
    own = [tag for tag in page.parsed.tags if not (tag[0] == "script" and "id" in tag[1])]
    assert len(own) == len(plain.tags) + 1  # the policy
    assert page.head["run"] == "a&b <run>"
    logs = [*RunFiles(out).logged(), *RunFiles(out).logged_heldout()]
    assert page.index["trajectories"]["id"] == [log.id for log in logs]
    for number, log in enumerate(logs):
        assert [m["content"] for m in page.trajectory(number)["messages"]] == [m.content for m in log.messages]
    data = page.text[page.text.index('id="head"') : page.text.index('id="c0"')]
    assert not re.search("[\u2028\u2029&]", data) and data.count("<") == 2  # the closing tag, and the next one


def test_a_page_that_escapes_nothing_would_be_found(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = [Label(turn_id="log1#2", note="</script><script>alert(1)</script>")]
    path = write_view(finished, tmp_path / "view.html", labels=note)
    assert Page(path).head["labels"] == [{"turn_id": "log1#2", "note": note[0].note}]
    monkeypatch.setattr("pivotrl.report.browser.packing._ESCAPES", {})
    tags = tags_of(write_view(finished, path, labels=note).read_text("utf-8"))
    assert "alert(1)" in tags.code


def test_only_the_script_and_the_style_of_the_template_are_allowed(page: Page) -> None:
    (policy,) = [dict(facts) for tag, facts in page.parsed.tags if tag == "meta" and "http-equiv" in dict(facts)]
    assert policy["http-equiv"] == "Content-Security-Policy"
    rules = dict(rule.strip().split(" ", 1) for rule in str(policy["content"]).split(";"))
    hashes = {
        f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'" for code in page.parsed.code
    }
    assert hashes and set(rules["script-src"].split()) == hashes
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert "unsafe" not in str(policy["content"]) and "http" not in str(policy["content"])
    assert page.text.index("Content-Security-Policy") < page.text.index("<script")
    assert not re.search(r"<[a-z]+[^>]*\s(src|href|style|on\w+)=", template())


def test_half_a_surrogate_pair_and_what_is_no_number() -> None:
    assert json.loads(json_text({"a": "x\ud800y"})) == {"a": "x\ud800y"}
    with pytest.raises(ValueError):
        json_text({"a": float("nan")})
    chunks = Chunks()
    assert chunks.add("samples", {"text": "\udfff</script>"}) == (1, 0)
    assert len(chunks.finish({})) == 2


# --- runs that are not whole --------------------------------------------------------------------------------------


def test_an_unfinished_run_shows_what_is_there_and_says_what_is_missing(finished: Path, tmp_path: Path) -> None:
    cut = tmp_path / "run"
    shutil.copytree(finished, cut)
    for path in (cut / "select.manifest.json", cut / "train.manifest.json", cut / "selection.jsonl"):
        path.unlink()
    shutil.rmtree(cut / "train")
    shutil.rmtree(cut / "evaluations")
    path = manifest_path(cut, "profile")
    write_manifest(path, read_manifest(path).model_copy(update={"status": "running", "outputs": None}))
    lines = (cut / "profiles.jsonl").read_bytes().splitlines(keepends=True)
    (cut / "profiles.jsonl").write_bytes(b"".join(lines[:3]) + lines[3][:40])  # a torn line
    page = Page(write_view(cut))
    assert page.sources == ["profile"] and len(page.results("profile")) == 3
    statuses = [page.status(number) for number in range(len(page.turn_ids()))]
    assert statuses.count("profiled") == 3 and statuses.count("not_profiled") > 3
    (notice, _) = page.head["notices"]
    assert "profiling (not finished), selection (not started)" in notice


def test_logs_alone_make_a_page(tmp_path: Path) -> None:
    read_stage(str(write_logs(tmp_path / "logs.jsonl", 4)), tmp_path / "run", reader=read)
    page = Page(write_view(tmp_path / "run"))
    assert page.sources == [] and len(page.turn_ids()) == 12
    assert {page.status(number) for number in range(12)} == {"not_profiled", "held_out"}


def test_a_damaged_file_is_refused(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(finished, tmp_path / "run")
    profiles = tmp_path / "run" / "profiles.jsonl"
    profiles.write_bytes(profiles.read_bytes().replace(b"answer", b"ANSWER", 1))
    told = refused(capsys, 2, "view", tmp_path / "run")
    assert "profiles.jsonl" in told and not (tmp_path / "run" / "view.html").exists()


def test_results_of_older_versions_show_their_first_sample_and_the_counts(finished: Path, tmp_path: Path) -> None:
    old = tmp_path / "run"
    shutil.copytree(finished, old)
    path, stage = old / "evaluations" / "after.turns.jsonl", manifest_path(old, "evaluations/after")
    rows = read_records(path, TurnResult)
    path.unlink()
    RecordFile(path, TurnResult).append([r.model_copy(update={"completions_G": (), "verdicts_G": ()}) for r in rows])
    write_manifest(stage, read_manifest(stage).model_copy(update={"status": "running", "outputs": None}))
    page, whole = Page(write_view(old)), Page(write_view(finished, tmp_path / "whole.html"))
    new = whole.results("evaluation/after@1")
    for turn, row in page.results("evaluation/after@1").items():
        assert {n: row[n] for n in ("passed", "failed", "unknown", "mean")} == {
            n: new[turn][n] for n in ("passed", "failed", "unknown", "mean")
        }
        (action,) = row["samples"]["actions"]
        if 0 < row["mean"] < 1:
            assert action["outcome"] == "no_verdict"  # whether the first sample passed is not in the file
    assert any("first sample" in notice for notice in page.head["notices"])


# --- another run --------------------------------------------------------------------------------------------------


def test_two_runs_are_joined_where_their_trajectories_agree(finished: Path, tmp_path: Path) -> None:
    other = made(tmp_path, policy=Policy(seed=5), environments=None)
    page = Page(write_view(finished, tmp_path / "view.html", ViewOptions(against=other)))
    assert page.results("run run: profile").keys() == page.results("profile").keys()
    mine, its = page.results("profile"), page.results("run run: profile")
    assert any(mine[turn]["mean"] != its[turn]["mean"] for turn in mine)
    alone = Page(write_view(other, tmp_path / "alone.html"))
    assert {t: row["mean"] for t, row in its.items()} == {t: row["mean"] for t, row in alone.results("profile").items()}
    titles = {(page.sources[old], page.sources[new]) for old, new, _ in page.head["pairs"]}
    assert ("profile", "run run: profile") in titles and ("evaluation/after@1", "run run: evaluation/after@1") in titles
    steps = {turn for turn, n in zip(page.turn_ids(), page.index["turns"]["steps"], strict=True) if n}
    assert steps == set(page.results("training/train"))  # the steps of this run alone


def test_trajectories_that_differ_are_left_out_and_runs_without_common_ones_refused(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (finished.parent / "logs.jsonl").read_text().splitlines(keepends=True)
    changed = [line.replace("You answer.", "You answer!") if n < 4 else line for n, line in enumerate(lines)]
    other, strange = tmp_path / "other", tmp_path / "strange"
    (tmp_path / "changed.jsonl").write_text("".join(changed))
    read_stage(str(tmp_path / "changed.jsonl"), other, reader=read)
    profile_stage(other, sampler=Policy(seed=1), verifier=verify, profiling=ProfileOptions(num_samples=2))
    page = Page(write_view(finished, tmp_path / "view.html", ViewOptions(against=other)))
    apart = {f"log{n}" for n in range(4)}
    assert {turn.partition("#")[0] for turn in page.results("run other: profile")}.isdisjoint(apart)
    assert any("4 of 10 trajectories cannot be compared with other: 4 differ" in n for n in page.head["notices"])
    read_stage(str(write_logs(tmp_path / "more.jsonl", 3)), strange, reader=_renamed)
    told = refused(capsys, 2, "view", finished, "--against", strange, "-o", tmp_path / "no.html")
    assert "have no trajectory in common (0 share an id" in told and not (tmp_path / "no.html").exists()
    assert "is the run itself" in refused(capsys, 2, "view", finished, "--against", finished)
    with pytest.raises(InputError, match="no samples yet"):
        read_stage(str(finished.parent / "logs.jsonl"), tmp_path / "bare", reader=read)
        join(RunFiles(finished), tmp_path / "bare")


def _renamed(path: Path) -> Iterator[Trajectory]:
    for item in read(path):
        assert isinstance(item, Trajectory)
        yield item.model_copy(update={"id": f"other-{item.id}"})


def test_evaluations_can_be_chosen_and_a_wrong_name_is_refused(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Page(write_view(finished, tmp_path / "view.html", ViewOptions(evaluation=("after",))))
    assert not any("before" in name for name in page.sources) and "evaluation/after@1" in page.sources
    told = refused(capsys, 2, "view", finished, "--evaluation", "aftr")
    assert "no evaluation called 'aftr'; did you mean 'after'?" in told


# --- prompts and tokens -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A profile of a tiny model at logs with emoji, made on the command line."""
    folder = tmp_path_factory.mktemp("model")
    save_tiny_model(folder / "model")
    talk = [{"role": "user", "content": "\U0001f600 hi"}, {"role": "assistant", "content": "\U0001f601"}]
    rows = [{"id": f"log{n}", "task_id": f"t{n}", "messages": talk * 3, "reward": 1.0} for n in range(3)]
    rows[1]["messages"] = [{"role": "user", "content": "\U0001f602 hi"}, *talk[1:], *talk]
    (folder / "logs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert call("read", folder / "logs.jsonl", "-o", folder / "run", "--heldout-fraction", 0) == 0
    sampling = ["--num-samples", 2, "--max-tokens", 4, "--verifier", "exact"]
    assert call("profile", folder / "run", "--model", folder / "model", *sampling) == 0
    return folder / "run"


def test_prompts_are_what_the_model_saw(with_model: Path, tmp_path: Path) -> None:
    assert call("view", with_model, "-o", tmp_path / "view.html", "--tokens") == 0
    page = Page(tmp_path / "view.html")
    prompting = prompting_of(PolicyChoice(policy="hf", model=str(with_model.parent / "model")))
    assert prompting is not None
    files, bases = RunFiles(with_model), []
    for number, name in enumerate(page.turn_ids()):
        turn, found = files.find_turn(name), page.prompt(number)
        assert turn is not None and found is not None
        ids = prompting.renderer.prompt(turn)
        assert (found["text"], found["tokens"], found["cut"]) == (
            prompting.renderer.tokenizer.decode(ids),
            len(ids),
            "",
        )
        bases.append(found["base"])
    assert bases[0] == -1 and all(base >= 0 for base in bases[1:])
    assert page.head["heat"] == ["logprob"] and not any("prompts" in notice for notice in page.head["notices"])
    groups = files.profiled()
    for turn, row in page.results("profile").items():
        for action in row["samples"]["actions"]:
            for sample in action["samples"]:
                completion = groups[turn].completions_G[sample["number"]]
                assert len(sample["heat"]["tokens"]) == sample["tokens"] == len(completion.token_ids_T)
                assert sample["heat"]["logprob"] == pytest.approx(list(completion.logprobs_T), abs=1e-3)


def test_samples_of_pivots_are_scored_before_and_after_training(with_model: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(with_model, run)
    model = ["--model", with_model.parent / "model", "--policy", "hf(lora_rank=4)", "--verifier", "exact"]
    assert call("select", run, "--rule", "all") == 0
    training = ["--num-steps", 1, "--turns-per-step", 2, "--group-size", 2, "--train-max-tokens", 4]
    assert call("train", run, *model, *training, "--method", "sft", "--learning-rate", 0.05) == 0
    assert call("view", run, "--score-pivots", 2, "-o", tmp_path / "view.html") == 0
    page = Page(tmp_path / "view.html")
    assert page.head["heat"] == ["logprob", "reference", "entropy", "ratio"]
    plain = AutoModelForCausalLM.from_pretrained(with_model.parent / "model")
    groups, renderer = RunFiles(run).profiled(), hf.Policy(model=str(with_model.parent / "model")).renderer
    pivots = {row.turn_id for row in [row for row in RunFiles(run).selected() if row.selected][:2]}
    changes = []
    for turn, row in page.results("profile").items():
        for sample in (sample for action in row["samples"]["actions"] for sample in action["samples"]):
            assert ("ratio" in sample["heat"]) == (turn in pivots)
            if turn in pivots:  # drawn at temperature 1, so the stored values are those of the policy before training
                assert sample["heat"]["reference"] == pytest.approx(sample["heat"]["logprob"], abs=2e-3)
                changes += sample["heat"]["ratio"]
                found = RunFiles(run).find_turn(turn)
                prompt, ids = renderer.prompt(found), groups[turn].completions_G[sample["number"]].token_ids_T
                with torch.no_grad():
                    logits_TV = plain(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
                entropy_T = torch.distributions.Categorical(logits=logits_TV).entropy()
                assert sample["heat"]["entropy"] == pytest.approx(entropy_T.tolist(), abs=2e-3)
    assert changes and max(abs(ratio - 1) for ratio in changes) > 0.01


def test_scoring_needs_pivots(with_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "has no pivots to score" in refused(capsys, 2, "view", with_model, "--score-pivots", 1)
    assert "--score-pivots must be at least 1, not 0" in refused(capsys, 2, "view", with_model, "--score-pivots", 0)


def test_the_page_says_why_there_are_no_prompts(with_model: Path, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "view.html"
    assert call("view", with_model, "-o", out, "--no-prompts") == 0
    assert any("--no-prompts" in notice for notice in Page(out).head["notices"])
    assert call("view", finished, "-o", out, "--tokens") == 0
    told = " ".join(Page(out).head["notices"])
    assert "the policy tabular" in told and "no tokenizer" in told and "log-probabilities" in told
    moved = tmp_path / "run"
    shutil.copytree(with_model, moved)
    path = manifest_path(moved, "profile")
    manifest = read_manifest(path)
    gone = {**manifest.policy, "model": str(tmp_path / "gone")}
    write_manifest(path, manifest.model_copy(update={"policy": gone}))
    assert call("view", moved, "-o", out) == 0
    assert any("could not be loaded" in notice and "gone" in notice for notice in Page(out).head["notices"])


def test_prompts_that_changed_and_prompts_beyond_the_limit_are_told(with_model: Path) -> None:
    prompting = prompting_of(PolicyChoice(policy="hf", model=str(with_model.parent / "model")))
    assert prompting is not None
    log = next(iter(RunFiles(with_model).logged()))
    prompts = Prompts(prompting, Chunks(), max_characters=100)
    places = [prompts.add(Turn(log, index), {"another hash"} if index == 1 else ()) for index in (1, 3, 5)]
    assert places[0] is not None and places[-1] is None
    told = " ".join(prompts.notices())
    assert "1 prompts differ from those that the samples were drawn at" in told and "1 prompts are left out" in told


def test_a_context_that_the_window_cuts_is_said(with_model: Path) -> None:
    prompting = prompting_of(PolicyChoice(policy="hf", model=str(with_model.parent / "model")))
    assert prompting is not None
    log = next(iter(RunFiles(with_model).logged())).model_copy(update={"context_window": 1})
    chunks = Chunks()
    Prompts(prompting, chunks).add(Turn(log, 5))
    (entry,) = unpacked(chunks.finish({})[1])["prompts"]
    assert entry["cut"] == "4 earlier messages are outside the agent's window"


@pytest.mark.parametrize(
    ("left", "right", "shared"),
    [
        ("", "abc", 0),
        ("abc", "abd", 2),
        ("abc", "abc", 3),
        ("a\U0001f600b", "a\U0001f600c", 2),
        ("x" * 999, "x" * 7, 7),
    ],
)
def test_the_common_beginning_of_two_texts(left: str, right: str, shared: int) -> None:
    assert common_prefix(left, right) == shared
    assert utf16_length(left) == len(left.encode("utf-16-le")) // 2


# --- pictures -----------------------------------------------------------------------------------------------------


def test_an_environment_draws_beside_its_messages(page: Page, finished: Path, tmp_path: Path) -> None:
    with_pictures = Page(
        write_view(finished, tmp_path / "view.html", views=Views.of(["guessing_pictures:make_environments"], True))
    )
    rows = with_pictures.index["trajectories"]
    place = rows["split"].index("episode")
    drawn = with_pictures.trajectory(place)["view"]
    assert drawn["0"] == {"kind": "text", "text": "1 to 3"}
    assert "view" not in page.trajectory(place)


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        (["no"], "it returned list"),
        ({99: {"kind": "text", "text": "x"}}, "there is no message 99"),
        ({0: {"kind": "html"}}, "kind is one of grid, text, diff, map"),
        ({0: {"kind": "text", "text": float("nan")}}, "ValueError"),
        (ZeroDivisionError("oh"), "ZeroDivisionError: oh"),
    ],
)
def test_a_hook_that_fails_is_a_notice(returned: Any, told: str) -> None:
    calls = []

    def hook(messages: Any, metadata: Any) -> Any:
        calls.append(metadata)
        if isinstance(returned, Exception):
            raise returned
        return returned

    views = Views({"mine": hook})
    log = Trajectory(id="log</b>", task_id="t", messages=(Message(role="user", content="x"),), metadata={"a": 1})
    assert views.of_trajectory(log) == views.of_trajectory(log) == {}
    assert calls == [{"a": 1}]
    (notice,) = views.notices
    assert "no pictures of mine: its render_view failed at log</b>" in notice and told in notice


def test_pictures_that_are_too_large_are_not_shown() -> None:
    views = Views({"mine": lambda messages, metadata: {0: {"kind": "text", "text": "x" * 60_000}}})
    log = Trajectory(id="log", task_id="t", messages=(Message(role="user", content="x"),))
    assert "at most 50,000" in views.of_trajectory(log)["0"]["text"]


def test_plancraft_draws_its_inventory() -> None:
    pytest.importorskip("plancraft")
    from pivotrl.environments.plancraft import make_environments

    games = make_environments(max_tasks=1)
    messages = games.make(games.tasks()[0]).reset()
    (drawn,) = (
        Views.of(["plancraft(max_tasks=1)"], True)
        .of_trajectory(Trajectory(id="log", task_id="t", messages=tuple(messages)))
        .values()
    )
    parts = {part["name"]: part["rows"] for part in drawn["parts"]}
    assert [(len(rows), len(rows[0])) for rows in parts.values()] == [(3, 3), (1, 1), (4, 9)]
    items = {cell["item"] for rows in parts.values() for row in rows for cell in row if cell}
    assert items and all(item in str(messages[0].content) for item in items)


def test_pinned_examples_are_marked_and_the_window_is_told(tmp_path: Path) -> None:
    roles = ("system", "user", "assistant", "user", "assistant")
    messages = tuple(Message(role=role, content=role) for role in roles)  # type: ignore[arg-type]
    log = Trajectory(id="log", task_id="t", messages=messages, context_window=1, pinned_messages=3)
    found = trajectory_text(log, {})
    assert [m.get("excluded") for m in found["messages"]] == [None, None, "pinned_example", None, None]
    assert (found["window"], found["pinned"]) == (1, 3) and "pinned_example" in words.STATUSES


def test_textworld_draws_the_rooms_visited() -> None:
    pytest.importorskip("textworld")
    done = ("nothing", "go south; take key", "go south; take key; go north; go west; go flying")
    messages = [Message(role="user", content=f"Task: x\nDone so far: {text}\nYou are carrying: y.") for text in done]
    drawn = Views.of(["textworld"], True).of_trajectory(Trajectory(id="log", task_id="t", messages=tuple(messages)))
    assert drawn.keys() == {"1", "2"} and drawn["1"]["here"] == "1"
    last = drawn["2"]
    assert [(n["x"], n["y"], n["label"]) for n in last["nodes"]] == [(0, 0, "start"), (0, 1, "1"), (-1, 0, "2")]
    assert last["edges"] == [["0", "1"], ["0", "2"]] and last["here"] == "2"


def test_an_environment_that_does_not_exist_is_refused(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no environment called 'plancrft'" in refused(capsys, 2, "view", finished, "--environments", "plancrft")


# --- labels, words, and the documents -----------------------------------------------------------------------------


def test_the_page_begins_with_the_labels_of_a_file(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label = {"turn_id": "log1#2", "drop": True, "note": "</script>"}
    sha256 = RunFiles(finished).sha256("trajectories.jsonl")
    file, out = tmp_path / "labels.json", tmp_path / "view.html"
    content = {"format": "pivotrl-labels-1", "run": "run", "trajectories_sha256": sha256, "labels": [label]}
    file.write_text(json.dumps(content))
    assert call("view", finished, "-o", out, "--labels", file) == 0
    assert Page(out).head["labels"] == [label]
    file.write_text(json.dumps({**content, "trajectories_sha256": "0" * 64}))
    assert "other trajectories" in refused(capsys, 2, "view", finished, "--labels", file)
    file.write_text("[]")
    assert "pivotrl-labels-1" in refused(capsys, 2, "view", finished, "--labels", file)
    assert "cannot read" in refused(capsys, 2, "view", finished, "--labels", tmp_path / "none.json")
    file.write_text(json.dumps({**content, "labels": [{"turn_id": "log1#3", "drop": True}]}))
    assert "label 1 (log1#3)" in refused(capsys, 2, "view", finished, "--labels", file)  # as `select --labels` says it


def test_what_cannot_be_done_is_refused_before_the_work(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, fault in (
        (("-o", tmp_path), "is a folder; give a file"),
        (("-o", finished / "profiles.jsonl"), "is not a page; give another file"),
        (("-o", finished / "profiles.jsonl" / "x.html"), "profiles.jsonl is a file"),
        (("--selection", "none"), "has no selections/none.manifest.json"),
        (("--against", tmp_path / "none"), "none is not a directory"),
        (("--no-prompts", "--tokens"), "--tokens needs the tokenizer"),
        (("--no-prompts", "--score-pivots", 2), "--score-pivots 2 needs a tokenizer"),
    ):
        told = refused(capsys, 2, "view", finished, *arguments)
        assert fault in told and "trajectories" not in told


def test_details_of_a_verdict_read_after_its_reason() -> None:
    def told(verdict: Verdict) -> str:
        draws = Draws([drawn(Action(content="x"), "x", verdict, finish_reason="stop")])
        return str(turn_samples(Action(content="y"), [], draws, len)["actions"][0]["detail"])

    assert told(Verdict.failed("wrong_tool", tool="find", path="")) == "expected find"
    assert (
        told(Verdict.failed("different_value", tool="find", path="flights[0].date")) == "tool find; at flights[0].date"
    )
    assert told(Verdict.failed("not_best", moves_lost=2.0)) == "moves lost 2"
    assert told(Verdict.passed("ok", missing=0)) == "missing 0"


def test_there_are_words_for_every_reason_that_the_documents_name() -> None:
    text = (Path(__file__).parents[1] / "docs" / "verifiers.md").read_text()
    table = text[text.index("| reason | outcome | meaning |") :]
    codes = [code for line in table.splitlines()[2:] for code in re.findall(r"`(\w+)`", line.split("|")[1])]
    assert len(codes) > 50
    assert [code for code in codes if code not in words.REASONS] == []


def test_the_report_links_to_the_page_once_it_is_there(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    (run / "view.html").unlink(missing_ok=True)
    link = '<a href="view.html">'
    assert call("report", run) == 0 and link not in (run / "report.html").read_text()
    assert call("view", run) == call("report", run) == 0 and link in (run / "report.html").read_text()


def test_the_commands_of_the_page_work(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = re.findall(r"^    pivotrl (view .*)$", PAGE, re.MULTILINE)
    assert len(commands) >= 4
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished, tmp_path / "runs" / "mine")
    made(tmp_path, policy=Policy(seed=9), environments=None)
    shutil.move(tmp_path / "run", tmp_path / "runs" / "other")
    compared(tmp_path / "runs" / "compare")
    sha256 = RunFiles(finished).sha256("trajectories.jsonl")
    labels = {"format": "pivotrl-labels-1", "run": "mine", "trajectories_sha256": sha256, "labels": []}
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    for command in commands:
        assert call(*command.split()) == 0, command
    assert Page(tmp_path / "runs" / "mine" / "view.html").head["run"] == "mine"


def test_a_synthetic_run_can_be_viewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "recipes"))
    import synthetic_run

    synthetic_run.make(tmp_path / "run", num_turns=60, num_samples=4, num_steps=2)
    page = Page(write_view(tmp_path / "run"))
    results = page.results("profile")
    assert len(results) == 60 and sum(r["passed"] + r["failed"] + r["unknown"] for r in results.values()) == 240
    assert any(row["malformed"] for row in results.values()) and any(row["cut_off"] for row in results.values())
    for command in ("status", "waver"):
        assert call(command, tmp_path / "run", "--json") == 0


def test_large_runs_are_packed_into_several_chunks(
    monkeypatch: pytest.MonkeyPatch, finished: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr("pivotrl.report.browser.packing._CHUNK_CHARACTERS", 2000)
    page = Page(write_view(finished, tmp_path / "a.html"))
    monkeypatch.undo()
    whole = Page(write_view(finished, tmp_path / "b.html"))
    assert len(page.chunks) > 10
    for source in whole.sources:
        assert {t: r["samples"] for t, r in page.results(source).items()} == {
            t: r["samples"] for t, r in whole.results(source).items()
        }
