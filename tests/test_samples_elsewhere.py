"""Prompts go out, samples made elsewhere come back, and stored samples are judged again.

Run alone: python -m pytest tests/test_samples_elsewhere.py
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pivotrl.policies.hf import Policy as HfPolicy
from pivotrl.protocols import Turn
from pivotrl.protocols.observing import Observer
from pivotrl.records import Message, SampleGroup, SkippedTurn, ToolCall
from pivotrl.rendering import prompt_hash
from pivotrl.runs.files import RunFiles
from pivotrl.runs.manifest import read_manifest
from pivotrl.runs.replacing import move_aside
from pivotrl.stages.judging import profile_samples_stage
from pivotrl.stages.judging_again import judge_again_stage
from pivotrl.stages.profiling import load_turns
from pivotrl.storage.record_files import read_records
from pivotrl.templates.api_messages import api_messages
from pivotrl.turns import TurnOptions
from pivotrl.verifiers.exact import verify as exact
from test_cli import call, refused
from test_pipeline import write_logs
from tiny import save_tiny_model

MODEL = "somebody-else-7b"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    assert call("read", write_logs(tmp_path / "logs.jsonl", 8), "-o", tmp_path / "run") == 0
    return tmp_path / "run"


def turns_of(run: Path) -> list[Turn]:
    return load_turns(run, TurnOptions())[0]


def texts(turn: Turn, number: int) -> list[str]:
    """Four answers, of which 0 to 3 are right."""
    right = turn.expected_action.content or ""
    return [right if g < number % 4 else f"wrong {g % 2}" for g in range(4)]


def header(run: Path) -> dict[str, Any]:
    assert call("prompts", run, "-o", run.parent / "prompts.jsonl") == 0
    first = json.loads((run.parent / "prompts.jsonl").read_text().splitlines()[0])
    return {"model": MODEL, "prompts_sha256": first["prompts_sha256"], "temperature": 1.0, "max_tokens": 64}


def rows(run: Path) -> list[dict[str, Any]]:
    return [
        {"turn_id": turn.id, "samples": [{"text": text} for text in texts(turn, number)]}
        for number, turn in enumerate(turns_of(run))
    ]


def write(path: Path, *values: Any) -> Path:
    path.write_text("".join(f"{value if isinstance(value, str) else json.dumps(value)}\n" for value in values))
    return path


def samples_of(run: Path) -> Path:
    return write(run.parent / "samples.jsonl", header(run), *rows(run))


def groups_of(run: Path) -> list[SampleGroup]:
    return read_records(run / "profiles.jsonl", SampleGroup)


# --- prompts ------------------------------------------------------------------------------------------------------


def test_prompts_are_what_a_chat_api_takes_and_the_same_each_time(run: Path) -> None:
    first, second = run.parent / "a.jsonl", run.parent / "b.jsonl"
    assert call("prompts", run, "-o", first) == call("prompts", run, "-o", second) == 0
    assert first.read_bytes() == second.read_bytes()
    head, *lines = map(json.loads, first.read_text().splitlines())
    turns = turns_of(run)
    assert head["turns"] == len(turns) and [line["turn_id"] for line in lines] == [turn.id for turn in turns]
    assert lines[1]["messages"][-1] == {"role": "user", "content": turns[1].context[-1].content}
    assert all("expected" not in json.dumps(line) and "token_ids" not in line for line in lines)
    assert not (run / "profile.manifest.json").exists()  # nothing was sampled or begun
    assert call("prompts", run, "-o", first, "--max-turns", "3") == 0
    assert json.loads(first.read_text().splitlines()[0])["prompts_sha256"] != head["prompts_sha256"]


def test_calls_without_ids_get_one_that_their_results_name() -> None:
    calls = (ToolCall(name="look"), ToolCall(name="take", arguments='{"what": "key"}', id="given"))
    context = (
        Message(role="user", content="Go."),
        Message(role="assistant", tool_calls=calls, reasoning="secret"),
        Message(role="tool", content="a key"),
        Message(role="tool", content="taken", tool_call_id="given"),
    )
    asked = api_messages(context)
    ids = [each["id"] for each in asked[1]["tool_calls"]]
    assert ids == ["call_1_0", "given"] and [row["tool_call_id"] for row in asked[2:]] == ids
    assert "secret" not in json.dumps(asked)
    assert asked[1]["content"] is None and asked[1]["tool_calls"][1]["function"]["arguments"] == '{"what": "key"}'


def test_prompts_replace_no_other_file(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs = run / "trajectories.jsonl"
    before = logs.read_bytes()
    assert "does not hold prompts" in refused(capsys, 2, "prompts", run, "-o", logs)
    assert logs.read_bytes() == before
    assert "is a folder" in refused(capsys, 2, "prompts", run, "-o", run)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


def test_token_ids_are_those_that_the_policy_would_see(run: Path, tiny: Path) -> None:
    path, policy = run.parent / "prompts.jsonl", HfPolicy(model=str(tiny))
    assert call("prompts", run, "-o", path, "--model", tiny, "--max-tokens", "16") == 0
    _, *lines = map(json.loads, path.read_text().splitlines())
    turns = {turn.id: turn for turn in turns_of(run)}
    assert lines
    for line in lines:
        prompt = policy.renderer.prompt(turns[line["turn_id"]])
        assert tuple(line["token_ids"]) == prompt and line["prompt_sha256"] == prompt_hash(prompt)
        assert line["stop_ids"] == sorted(policy.renderer.stop_ids)
        assert line["text"] == policy.renderer.tokenizer.decode(prompt, clean_up_tokenization_spaces=False)
    fitting = [turn.id for turn in turns.values() if policy.fits(turn, 16)]
    assert [line["turn_id"] for line in lines] == fitting
    assert call("prompts", run, "-o", path, "--model", tiny, "--max-tokens", policy.max_context) == 0
    assert len(path.read_text().splitlines()) == 1  # nothing fits any more


# --- samples ------------------------------------------------------------------------------------------------------


def test_samples_from_a_file_give_what_the_same_samples_drawn_here_give(run: Path, tmp_path: Path) -> None:
    script = {row["turn_id"]: [sample["text"] for sample in row["samples"]] for row in rows(run)}
    write(tmp_path / "script.json", script)
    other = tmp_path / "other"
    assert call("read", tmp_path / "logs.jsonl", "-o", other) == 0
    sampler = f"scripted(script={str(tmp_path / 'script.json')!r})"
    assert call("profile", other, "--sampler", sampler, "--num-samples", "4", "--verifier", "exact") == 0
    assert call("profile", run, "--samples", samples_of(run), "--verifier", "exact") == 0
    assert call("select", run) == call("select", other) == 0
    chosen, same = (
        [row.model_copy(update={"group_tokens": None}) for row in RunFiles(folder).selections()]
        for folder in (run, other)
    )  # texts alone tell no cost in tokens
    assert chosen == same
    here, there = groups_of(other), groups_of(run)
    assert [group.verdicts_G for group in here] == [group.verdicts_G for group in there]
    assert [[c.action for c in group.completions_G] for group in here] == [
        [c.action for c in group.completions_G] for group in there
    ]
    # What nobody said stays unknown.
    assert all(c.logprobs_T == () and c.token_ids_T == () for group in there for c in group.completions_G)
    manifest = read_manifest(run / "profile.manifest.json")
    assert manifest.policy["made_by"] == MODEL and manifest.policy["identity"]["samples_of"] == MODEL
    assert manifest.options["num_samples"] == 4 and manifest.options["max_tokens"] == 64
    assert manifest.num_rollout_turns == sum(len(group.completions_G) for group in there)


def test_everything_after_works(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("profile", run, "--samples", samples_of(run), "--verifier", "exact") == 0
    assert call("select", run) == 0
    options = ["--policy", "tabular", "--num-steps", "2", "--turns-per-step", "2", "--group-size", "2"]
    told = refused(capsys, 2, "train", run, *options, "--learning-rate", "1")
    assert "--profile-may-differ-in" in told, "another model made the samples"
    kinds = told.partition("--profile-may-differ-in ")[2].split()
    assert call("train", run, *options, "--learning-rate", "1", "--profile-may-differ-in", *kinds) == 0
    assert call("export", run, "trl", "-o", run.parent / "rows") == 0
    assert call("show", run, turns_of(run)[0].id) == 0
    assert call("report", run) == 0
    assert f"samples of {MODEL}" in (run / "report.html").read_text()
    # An old training takes no harm from the same command: the stage is finished.
    assert call("profile", run) == 0 and (run / "train.manifest.json").is_file()


def test_shards_are_merged_and_missing_turns_are_told(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head, lines = header(run), rows(run)
    one, two = write(run.parent / "1.jsonl", head, *lines[5:-2]), write(run.parent / "2.jsonl", head, "", *lines[:5])
    assert call("profile", run, "--samples", one, two, "--verifier", "exact") == 0
    missing = [line["turn_id"] for line in lines[-2:]]
    told = " ".join(capsys.readouterr().err.split())
    assert f"2 of {len(lines)} candidate turns have no samples: {', '.join(missing)}" in told
    assert [skip.turn_id for skip in read_records(run / "skipped.jsonl", SkippedTurn)] == missing
    assert read_manifest(run / "profile.manifest.json").counts["skipped"] == {"no_samples": 2}
    whole = write(run.parent / "whole.jsonl", head, *lines[:-2])
    before = (run / "profiles.jsonl").read_bytes()
    assert call("profile", run, "--samples", whole) == 0  # the same samples, spread otherwise: the stage is finished
    assert (run / "profiles.jsonl").read_bytes() == before and not (run / "replaced").exists()
    fewer = [{**lines[0], "samples": lines[0]["samples"][:3]}, *lines[1:]]
    assert "samples: was" in refused(capsys, 2, "profile", run, "--samples", write(whole, head, *fewer))
    assert call("profile", run, "--samples", whole, "--overwrite") == 0
    assert read_manifest(run / "profile.manifest.json").counts["turns_with_fewer_samples"] == 1


Change = Callable[[dict[str, Any], list[Any]], Any]


def put(place: int, **changes: Any) -> Change:
    return lambda head, lines: lines.__setitem__(place, {**lines[place], **changes})


REFUSALS: dict[str, tuple[Change, str]] = {
    "other prompts": (lambda head, lines: head.update(prompts_sha256="0" * 64), f"is {'0' * 64!r}, this run's is '"),
    "no header": (lambda head, lines: head.clear(), "must begin with a row that names the model"),
    "no temperature": (lambda head, lines: head.pop("temperature"), "temperature: Field required"),
    "misspelt": (lambda head, lines: head.update(topp=0.9), "topp: Extra inputs are not permitted"),
    "unknown style": (lambda head, lines: head.update(actions="hermess"), "no style of actions 'hermess'"),
    "needs a tokenizer": (lambda head, lines: head.update(renderer_sha256="x"), "name that tokenizer's model"),
    "unknown turn": (put(0, turn_id="log0#3"), "no candidate turn 'log0#3'; did you mean 'log0#"),
    "twice": (lambda head, lines: lines.append(lines[2]), "already has samples at"),
    "no samples": (put(1, samples=[]), "samples: "),
    "two kinds": (put(1, samples=[{"text": "a", "message": {"content": "a"}}]), "one of text, token_ids and message"),
    "token ids": (put(1, samples=[{"token_ids": [1]}]), "name it with --model"),
    "logprobs": (put(1, samples=[{"text": "a", "logprobs": [-0.5]}]), "leave them out if unknown"),
    "positive": (put(1, samples=[{"token_ids": [1], "logprobs": [0.5]}]), "at most 0"),
    "finish": (put(1, samples=[{"text": "a", "finish_reason": "bored"}]), "finish_reason must be one of stop"),
    "message": (put(1, samples=[{"message": {"content": 7}}]), "content is number"),
    "cut off": (lambda head, lines: lines.append('{"turn_id": "log'), "is not JSON"),
    "nothing": (lambda head, lines: lines.clear(), "no samples of any of the"),
}


@pytest.mark.parametrize("fault", REFUSALS)
def test_what_cannot_be_used_is_refused_with_its_place(
    fault: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head, lines = header(run), rows(run)
    change, expected = REFUSALS[fault]
    change(head, lines)
    path = write(run.parent / "bad.jsonl", *([head] if head else []), *lines)
    told = refused(capsys, 2, "profile", run, "--samples", path, "--verifier", "exact")
    assert expected in told and "bad.jsonl" in told
    assert not (run / "profile.manifest.json").exists() and not (run / "profiles.jsonl").exists()


def test_options_that_contradict_the_samples_are_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = samples_of(run)
    given = ("profile", run, "--samples", path, "--verifier", "exact")
    assert "--temperature 0.5 is not what the samples say (1.0)" in refused(capsys, 2, *given, "--temperature", "0.5")
    assert "leave one out" in refused(capsys, 2, *given, "--sampler", "scripted(script={})")
    assert "leave out --samples" in refused(capsys, 2, *given, "--judge-again")
    other = write(run.parent / "other.jsonl", {**header(run), "model": "x"}, *rows(run)[:1])
    assert "differ in model" in refused(capsys, 2, "profile", run, "--samples", path, other, "--verifier", "exact")
    assert "cannot read" in refused(capsys, 2, "profile", run, "--samples", run / "none.jsonl")


def test_token_ids_and_messages_become_the_actions_they_mean(run: Path, tiny: Path) -> None:
    policy, turns = HfPolicy(model=str(tiny)), turns_of(run)
    assert call("prompts", run, "-o", run.parent / "prompts.jsonl", "--model", tiny, "--max-tokens", "16") == 0
    first = json.loads((run.parent / "prompts.jsonl").read_text().splitlines()[0])
    head = {**{key: first[key] for key in ("prompts_sha256", "renderer_sha256", "temperature")}, "max_tokens": 16}
    ids = policy.encode_action(turns[0], turns[0].expected_action).token_ids_T
    right = turns[0].expected_action.content
    samples = [
        {"token_ids": ids, "logprobs": [-0.5] * len(ids)},
        {"token_ids": ids[:-1]},
        {"token_ids": ids[:-1], "finish_reason": "stop"},
        {"message": {"role": "assistant", "content": right, "refusal": None}, "finish_reason": "stop"},
        {"message": {"content": right}, "finish_reason": "length"},
    ]
    path = write(run.parent / "s.jsonl", {"model": MODEL, **head}, {"turn_id": turns[0].id, "samples": samples})
    assert call("profile", run, "--samples", path, "--verifier", "exact", "--model", tiny) == 0
    (group,) = groups_of(run)
    assert [verdict.reason for verdict in group.verdicts_G] == ["match", "truncated", "match", "match", "truncated"]
    assert group.completions_G[0].token_ids_T == ids and group.completions_G[0].logprobs_T == (-0.5,) * len(ids)
    assert group.completions_G[1].logprobs_T == ()
    assert group.prompt_sha256 == prompt_hash(policy.renderer.prompt(turns[0]))


class Interrupts(Observer):
    """Presses Ctrl-C once some turns are judged."""

    def progress(self, what: str, done: int, total: int) -> None:
        if what == "turns profiled" and done >= 6:
            raise KeyboardInterrupt


def test_an_interrupted_profile_of_samples_goes_on_with_the_bare_command(run: Path, tmp_path: Path) -> None:
    path, other = samples_of(run), tmp_path / "other"
    assert call("read", tmp_path / "logs.jsonl", "-o", other) == 0
    with pytest.raises(KeyboardInterrupt):
        profile_samples_stage(run, [path], verifier=exact, observer=Interrupts())
    assert 0 < len(groups_of(run)) < len(turns_of(run))
    assert read_manifest(run / "profile.manifest.json").status == "running"
    assert call("profile", run) == 0
    assert call("profile", other, "--samples", path, "--verifier", "exact") == 0
    for name in ("profiles.jsonl", "skipped.jsonl"):
        assert (run / name).exists() == (other / name).exists()
    assert (run / "profiles.jsonl").read_bytes() == (other / "profiles.jsonl").read_bytes()


# --- judging again ------------------------------------------------------------------------------------------------

OTHER = "tests_other_verifier"


@pytest.fixture
def profiled(run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A profile of a local policy; and a verifier that accepts anything but silence and one wrong answer."""
    folder = run.parent / "plugins"
    folder.mkdir()
    (folder / f"{OTHER}.py").write_text(
        "from pivotrl.records import Verdict\n\n\n"
        "def verify(turn, action):\n"
        "    right = action.content in (turn.expected_action.content, 'made-up action 1')\n"
        "    return Verdict.passed() if right and not action.tool_calls else Verdict.failed('other')\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    assert call("profile", run, "--policy", "tabular", "--verifier", "exact", "--num-samples", "8") == 0
    assert call("select", run) == 0
    return run


def judged(run: Path, *more: str) -> int:
    return call("profile", run, "--verifier", f"{OTHER}:verify", "--judge-again", "--max-false-pass", "1", *more)


def replaced(run: Path) -> Path:
    (folder,) = (run / "replaced").iterdir()
    return folder


def test_samples_are_judged_again_and_the_old_verdicts_are_kept(
    profiled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, bytes_before = groups_of(profiled), (profiled / "profiles.jsonl").read_bytes()
    cost = read_manifest(profiled / "profile.manifest.json").num_rollout_turns
    scores = (profiled / "demonstrations.jsonl").read_bytes()
    assert judged(profiled) == 0
    new, manifest = groups_of(profiled), read_manifest(profiled / "profile.manifest.json")
    assert [group.completions_G for group in new] == [group.completions_G for group in old]
    assert [group.verdicts_G for group in new] != [group.verdicts_G for group in old]
    assert (replaced(profiled) / "profiles.jsonl").read_bytes() == bytes_before
    assert (profiled / "demonstrations.jsonl").read_bytes() == scores
    assert manifest.options["judged_before_by"] == "pivotrl.verifiers.exact:verify"
    assert manifest.options["verifier"] == f"{OTHER}:verify" and manifest.num_rollout_turns == cost
    assert manifest.policy["policy"] == "tabular"
    assert not (profiled / "selection.jsonl").exists() and (replaced(profiled) / "selection.jsonl").exists()
    capsys.readouterr()
    assert judged(profiled) == call("profile", profiled) == 0  # nothing left to do
    assert "already" in capsys.readouterr().err and len(list((profiled / "replaced").iterdir())) == 1
    assert call("select", profiled) == 0


def test_what_was_trained_from_old_verdicts_moves_only_when_asked(
    profiled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = ["--num-steps", "1", "--turns-per-step", "2", "--group-size", "2", "--learning-rate", "1"]
    assert call("train", profiled, *training) == 0
    before = (profiled / "profiles.jsonl").read_bytes()
    capsys.readouterr()
    assert judged(profiled) == 2
    assert "train. Add --overwrite" in " ".join(capsys.readouterr().err.split())
    assert (profiled / "profiles.jsonl").read_bytes() == before and not (profiled / "replaced").exists()
    assert judged(profiled, "--overwrite") == 0
    assert (replaced(profiled) / "train.manifest.json").is_file()


def test_judging_again_goes_on_after_a_kill_at_any_point(profiled: Path, tmp_path: Path) -> None:
    import tests_other_verifier  # type: ignore[import-not-found]

    from pivotrl.judging.lint import CheckOptions

    assert judged(profiled) == 0
    expected = (profiled / "profiles.jsonl").read_bytes()
    # In the middle: a second change of the verifier, interrupted.
    with pytest.raises(KeyboardInterrupt):
        judge_again_stage(profiled, verifier=exact, observer=Interrupts())
    assert 0 < len(groups_of(profiled)) < len(turns_of(profiled))
    assert read_manifest(profiled / "profile.manifest.json").status == "running"
    assert call("profile", profiled, "--verifier", f"{OTHER}:verify") == 2  # another verifier does not mix in
    assert call("profile", profiled) == 0
    assert {v.reason for group in groups_of(profiled) for v in group.verdicts_G} == {"match", "different_text"}
    assert len(groups_of(profiled)) == len(turns_of(profiled))
    # Between the move and the new manifest.
    move_aside(profiled, "profile")
    assert not (profiled / "profile.manifest.json").exists()
    judge_again_stage(profiled, verifier=tests_other_verifier.verify, checking=CheckOptions(max_false_pass=1.0))
    assert (profiled / "profiles.jsonl").read_bytes() == expected


def test_there_must_be_a_profile_to_judge_again(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = refused(capsys, 2, "profile", run, "--verifier", "exact", "--judge-again")
    assert "has no profile.manifest.json" in told
    samples = samples_of(run)
    assert call("profile", run, "--samples", samples, "--verifier", "exact") == 0
    told = refused(
        capsys,
        2,
        "profile",
        run,
        "--verifier",
        "outcome(environment='plancraft')",
        "--judge-again",
        "--policy",
        "tabular",
    )
    assert "not the policy that made the samples" in told
    told = refused(
        capsys, 2, "profile", run, "--samples", samples, "--verifier", "outcome(environment='plancraft')", "--overwrite"
    )
    assert "plays on with the policy" in told and not (run / "replaced").exists()
