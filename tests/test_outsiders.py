"""A plugin of each kind that lives outside the package (tests/plugins) runs through the command line, with no edit
anywhere else.

Run alone: python -m pytest tests/test_outsiders.py
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pivotrl import plugins
from pivotrl.cli import main
from pivotrl.records import EpisodeResult, Refusal, SampleGroup, StepMetrics, Trajectory
from pivotrl.runs.manifest import read_manifest
from pivotrl.storage.record_files import read_records
from tiny import save_tiny_model

ROOT = Path(__file__).parents[1]
PLUGINS = Path(__file__).parent / "plugins"
PAGE = (ROOT / "docs" / "plugins.md").read_text()
NAMES = {
    "readers": "transcripts:read",
    "verifiers": "same_words:verify",
    "environments": "guessing:make_environments",
    "samplers": "bisecting:Sampler",
    "policies": "bandit:Policy",
    "methods": "positive_only:Method",
    "trackers": "webhook:Tracker",
    "exporters": "openai_chat:export",
    "harnesses": "sums_bench:Harness",
}
FAST = "--num-samples 8 --num-steps 6 --group-size 8 --turns-per-step 8 --max-tokens 12 --train-max-tokens 12"
OURS = "--reader transcripts:read --verifier same_words:verify"
BANDIT = "--policy \"bandit:Policy(tokenizer='tiny')\""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Transcripts, one of which cannot be read, and a tokenizer."""
    folder = tmp_path_factory.mktemp("outside")
    talks = [f"task: even-{i}\nuser: Is {i} even?\nagent: {'no' if i % 2 else 'yes'}\nreward: 1\n" for i in range(16)]
    (folder / "talks.txt").write_text("# about numbers\n" + "\n".join([*talks, "user: Is 9 odd?\nagent yes\n"]))
    save_tiny_model(folder / "tiny")
    return folder


def cli(folder: Path, arguments: str, path: str = f"{ROOT / 'src'}{os.pathsep}{PLUGINS}") -> Any:
    """The command line in a process of its own, whose path holds the plugins."""
    command = [sys.executable, "-m", "pivotrl.cli", *shlex.split(arguments)]
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def done(folder: Path, arguments: str, **options: Any) -> str:
    finished = cli(folder, arguments, **options)
    assert finished.returncode in (0, 5), finished.stderr  # 5: some records could not be read, as they should
    return " ".join(finished.stderr.split())


class Server:
    """Keeps what is posted to it."""

    def __init__(self, refuses: dict[str, Any] | None = None) -> None:
        self.events: list[dict[str, Any]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.events.append(event)
                self.send_response(500 if refuses and refuses.items() <= event.items() else 200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Server:
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture(scope="module")
def whole(folder: Path) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
    """A run in which everything comes from outside, and the events that its tracker posted."""
    with Server() as server:
        done(
            folder,
            f"run talks.txt -o run {OURS} {BANDIT} {FAST} --method positive_only:Method --eval-temperature 1 "
            f'--environments "guessing:make_environments(highest=3)" --tracker "webhook:Tracker(url=\'{server.url}\')"',
        )
        yield folder / "run", server.events


# --- all of them in one run -------------------------------------------------------------------------------------------


def test_a_reader_from_outside_reads_and_says_what_it_could_not(whole: tuple[Path, Any]) -> None:
    run, _ = whole
    found = [*read_records(run / "trajectories.jsonl", Trajectory), *read_records(run / "heldout.jsonl", Trajectory)]
    assert {one.task_id for one in found} == {f"even-{i}" for i in range(16)}
    (refused,) = read_records(run / "refused.jsonl", Refusal)
    assert (refused.place, refused.reason) == ("talks.txt, conversation 17", "cannot read 'agent yes'")


def test_a_policy_and_a_verifier_from_outside_learn_the_task(whole: tuple[Path, Any]) -> None:
    run, _ = whole
    profiles = read_records(run / "profiles.jsonl", SampleGroup)
    assert {verdict.reason for group in profiles for verdict in group.verdicts_G} == {"same_words", "other_words"}
    steps = read_records(run / "train" / "metrics.jsonl", StepMetrics)
    assert steps[-1].metrics["reward/mean"] > 0.75 > 0.65 > steps[0].metrics["reward/mean"]
    scores = json.loads((run / "train" / "policy" / "scores.json").read_text())
    assert len(scores) == read_manifest(run / "select.manifest.json").counts["pivots"]


def test_a_method_from_outside_trains_and_names_itself_in_the_report(whole: tuple[Path, Any]) -> None:
    run, _ = whole
    for step in read_records(run / "train" / "metrics.jsonl", StepMetrics):
        groups = [
            group for group in read_records(run / "train" / "groups.jsonl", SampleGroup) if group.step == step.step
        ]
        mixed = [sum(verdict.outcome == "pass" for verdict in group.verdicts_G) for group in groups]
        assert step.metrics["samples/kept"] == sum(passed for passed in mixed if passed < 8)
    assert "positive advantages only" in (run / "report.html").read_text()
    # Where the method is not installed, the page still names it.
    done(run.parent, "report run", path=str(ROOT / "src"))
    page = (run / "report.html").read_text()
    assert "positive advantages only" not in page and "positive_only:Method" in page
    done(run.parent, "report run")


def test_a_tracker_from_outside_hears_every_stage_and_step_in_order(whole: tuple[Path, Any]) -> None:
    run, events = whole
    heard = [(event["event"], event.get("stage", event.get("number"))) for event in events]
    stages = ["read", "profile", "select", "evaluations/before"]
    before = [(event, stage) for stage in stages for event in ("started", "finished")]
    training = [("started", "train"), *(("step", number) for number in range(6)), ("finished", "train")]
    after = [("started", "evaluations/after"), ("finished", "evaluations/after"), ("closed", None)]
    assert heard == [*before, *training, *after]
    stored = read_records(run / "train" / "metrics.jsonl", StepMetrics)
    assert [event["metrics"] for event in events if event["event"] == "step"] == [one.metrics for one in stored]


def test_an_environment_from_outside_is_played_task_by_task(whole: tuple[Path, Any]) -> None:
    run, _ = whole
    results = read_records(run / "evaluations" / "after.episodes.jsonl", EpisodeResult)
    assert [result.task_id for result in results] == ["secret-1", "secret-2", "secret-3"]
    assert {result.reason for result in results} == {"out_of_guesses"}  # a bandit that says yes or no


def test_an_exporter_from_outside_writes_its_rows(whole: tuple[Path, Any]) -> None:
    run, _ = whole
    done(run.parent, "export run \"openai_chat:export(system='Be brief.')\" -o rows --turns profiled")
    rows = [json.loads(line) for line in (run.parent / "rows" / "train.jsonl").read_text().splitlines()]
    assert rows[0]["messages"][0] == {"role": "system", "content": "Be brief."}
    said = {row["messages"][1]["content"]: row["messages"][2]["content"] for row in rows}
    assert len(said) == read_manifest(run.parent / "rows" / "export.manifest.json").counts["rows"]["train"] > 8
    assert all(answer == ("no" if int(question.split()[1]) % 2 else "yes") for question, answer in said.items())
    assert "# Pivots for chat fine-tuning" in (run.parent / "rows" / "README.md").read_text()


def test_environments_given_anew_are_told_where_they_differ_only(whole: tuple[Path, Any]) -> None:
    run, _ = whole
    given = '--verifier same_words:verify --eval-temperature 0 --sampler bisecting:Sampler --environments "guessing:'
    same = done(run.parent, f'evaluate run --name same {given}make_environments(highest=3)"')
    other = done(run.parent, f'evaluate run --name other {given}make_environments(highest=2)"')
    assert "this run was made with" not in same
    assert "make_environments(highest=2): this run was made with guessing:make_environments(highest=3)" in other


# --- samplers ---------------------------------------------------------------------------------------------------------


def test_a_sampler_from_outside_is_measured_in_episodes_without_being_a_policy(whole: tuple[Path, Any]) -> None:
    run, _ = whole
    played = "guessing:make_environments(highest=7, guesses=3)"
    done(
        run.parent,
        f'evaluate run --name bisecting --sampler bisecting:Sampler --environments "{played}" '
        "--verifier same_words:verify --eval-temperature 0",
    )
    results = read_records(run / "evaluations" / "bisecting.episodes.jsonl", EpisodeResult)
    assert [result.reward for result in results] == [1.0] * 7  # bisection finds each of 7 numbers in 3 guesses
    texts = run.parent / "texts.jsonl"
    texts.write_text(json.dumps({"id": "a", "source": "s", "prompt": "p", "answer": "a"}) + "\n")
    refused = cli(
        run.parent, "evaluate run --name texts --sampler bisecting:Sampler --retention texts.jsonl --verifier exact"
    )
    assert refused.returncode == 2 and "score_text" in refused.stderr and "Traceback" not in refused.stderr


def test_a_generator_from_outside_profiles_as_a_sampler(folder: Path) -> None:
    done(folder, "read talks.txt -o drawn --reader transcripts:read")
    done(
        folder,
        "profile drawn --verifier same_words:verify --num-samples 4 --max-tokens 12 "
        "--sampler \"bigrams:Sampler(tokenizer='tiny')\"",
    )
    groups = read_records(folder / "drawn" / "profiles.jsonl", SampleGroup)
    assert len(groups) > 8 and all(group.prompt_sha256 and group.num_prompt_tokens for group in groups)
    assert len({one.text for group in groups for one in group.completions_G}) > 20
    manifest = read_manifest(folder / "drawn" / "profile.manifest.json")
    assert manifest.policy["identity"]["generator"] == "bigrams"
    again = cli(folder, "profile drawn --verifier same_words:verify --num-samples 4 --max-tokens 12 --policy tabular")
    assert again.returncode == 2 and "policy, generator: was 'bigrams'" in again.stderr


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_tracker_that_raises_in_mid_step_is_named_once_and_the_run_ends_well(folder: Path) -> None:
    options = f"{OURS} --policy tabular {FAST} --learning-rate 1"
    with Server(refuses={"event": "step", "number": 1}) as server:
        told = done(folder, f"run talks.txt -o tracked {options} --tracker \"webhook:Tracker(url='{server.url}')\"")
    assert told.count("Tracker failed in step and gets no more events: HTTPError") == 1
    assert server.events[-1]["number"] == 1  # and nothing more, not even "closed"
    done(folder, f"run talks.txt -o untracked {options}")
    for name in (
        "profiles.jsonl",
        "train/groups.jsonl",
        "evaluations/after.turns.jsonl",
        "train/policy/probabilities.json",
    ):
        assert (folder / "tracked" / name).read_bytes() == (folder / "untracked" / name).read_bytes(), name
    assert (folder / "tracked" / "report.html").is_file()


def test_a_tracker_that_is_no_observer_is_refused_before_anything_is_read(folder: Path) -> None:
    refused = cli(folder, f"run talks.txt -o wrong {OURS} --policy tabular --tracker collections:Counter")
    assert refused.returncode == 2 and "is not an Observer" in refused.stderr + refused.stdout
    assert not (folder / "wrong").exists()


def test_a_method_from_outside_refuses_its_options_before_anything_is_read(folder: Path) -> None:
    refused = cli(
        folder, f"run talks.txt -o wrong {OURS} --policy tabular --method positive_only:Method --group-size 1"
    )
    assert refused.returncode == 2 and "--group-size 1 gives no advantage" in " ".join(refused.stderr.split())
    assert not (folder / "wrong").exists()


@pytest.mark.parametrize(
    ("command", "nearest"),
    [
        ("run talks.txt -o wrong --reader transcripts:read(coment='%')", "comment"),
        ("run talks.txt -o wrong --verifier same_words:verify(anyorder=True)", "any_order"),
        ("run talks.txt -o wrong --environments guessing:make_environments(hihgest=3)", "highest"),
        ("profile run --sampler bisecting:Sampler(otherwize='x')", "otherwise"),
        ("run talks.txt -o wrong --policy bandit:Policy(tokeniser='tiny')", "tokenizer"),
        ("run talks.txt -o wrong --method positive_only:Method(abov=1.0)", "above"),
        ("run talks.txt -o wrong --tracker webhook:Tracker(uri='http://localhost')", "url"),
        ("export run openai_chat:export(sistem='x') -o wrong", "system"),
    ],
)
def test_an_unknown_option_is_refused_with_the_nearest_name(
    command: str,
    nearest: str,
    whole: tuple[Path, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, _ = whole
    monkeypatch.chdir(run.parent)
    monkeypatch.syspath_prepend(str(PLUGINS))
    with pytest.raises(SystemExit) as stopped:
        main(command.split())
    assert stopped.value.code == 2
    assert f"did you mean {nearest!r}?" in " ".join(capsys.readouterr().err.split())
    assert not (run.parent / "wrong").exists()


# --- installed --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pip leaves of a distribution with an entry point of every kind."""
    site = tmp_path_factory.mktemp("site")
    info = site / "outsiders-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outsiders\nVersion: 1.0\n")
    groups = [f"[pivotrl.{kind}]\n{name.partition(':')[0]} = {name}\n" for kind, name in NAMES.items()]
    (info / "entry_points.txt").write_text("\n".join(groups))
    return site


@pytest.mark.parametrize("kind", plugins.EXPORTS)
def test_an_installed_plugin_of_every_kind_is_found_by_its_name(
    kind: str, installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = NAMES[kind].partition(":")[0]
    assert name not in plugins.names(kind)
    monkeypatch.syspath_prepend(str(PLUGINS))
    monkeypatch.syspath_prepend(str(installed))
    assert name in plugins.names(kind)
    assert plugins.find(kind, name) is plugins.find(kind, NAMES[kind])


def test_installed_plugins_are_listed_and_run_by_their_names(folder: Path, installed: Path) -> None:
    path = os.pathsep.join(map(str, (ROOT / "src", PLUGINS, installed)))
    listed = json.loads(cli(folder, "list --json", path=path).stdout)
    assert {(kind, name.partition(":")[0]) for kind, name in NAMES.items()} <= {
        (row["kind"], row["name"]) for row in listed
    }
    with Server() as server:
        done(
            folder,
            "run talks.txt -o named --reader transcripts --verifier same_words "
            f"{BANDIT.replace('bandit:Policy', 'bandit')} {FAST} --eval-temperature 1 --environments guessing "
            f"--method 'positive_only(above=0.1)' --tracker \"webhook(url='{server.url}', run='named')\"",
            path=path,
        )
    assert {event["run"] for event in server.events} == {"named"} and server.events[-1]["event"] == "closed"
    assert "positive advantages only" in (folder / "named" / "report.html").read_text()


# --- types and documents ----------------------------------------------------------------------------------------------

USES = """
import bandit, bigrams, bisecting, guessing, openai_chat, positive_only, same_words, transcripts, webhook

from pivotrl.protocols import MakeEnvironments, Policy, Reader, Sampler, Verifier
from pivotrl.protocols.observing import Observer
from pivotrl.protocols.tokens import Generator, Learner
from pivotrl.rows.exporting import Exporter
from pivotrl.training import Method

reader: Reader = transcripts.read
verifier: Verifier = same_words.verify
environments: MakeEnvironments = guessing.make_environments
sampler: Sampler = bisecting.Sampler()
actor: Sampler = bigrams.Sampler(tokenizer="tiny")
generator: Generator = bigrams.Bigrams(8)
learner: Learner = bandit.Bandit([], 8)
policy: Policy = bandit.Policy(tokenizer="tiny")
method: Method = positive_only.Method()
tracker: Observer = webhook.Tracker(url="")
exporter: Exporter = openai_chat.export
"""


def test_the_plugins_pass_the_type_checker(tmp_path: Path) -> None:
    (tmp_path / "uses.py").write_text(USES)
    (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = True\n[mypy-transformers.*]\nfollow_imports = skip\n")
    options = ("--config-file=mypy.ini", f"--cache-dir={tmp_path / 'cache'}", "--follow-imports=silent")
    environment = {**os.environ, "MYPYPATH": f"{ROOT / 'src'}{os.pathsep}{PLUGINS}"}
    command = [sys.executable, "-m", "mypy", *options, "uses.py", *map(str, sorted(PLUGINS.glob("*.py")))]
    checked = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_page_names_each_file_to_copy() -> None:
    files = {path.stem: len(path.read_text().splitlines()) for path in PLUGINS.glob("*.py")}
    assert set(re.findall(r"`tests/plugins/(\w+)\.py`", PAGE)) == set(files)
    assert max(files.values()) <= 120


def test_the_documented_commands_run_as_they_are_written(folder: Path) -> None:
    sections = re.findall(r"^## (?:Samplers and generators|Methods|Trackers)\n(.*?)(?=^## )", PAGE, re.M | re.S)
    text = "".join(sections).replace("\\\n", " ")
    commands = re.findall(r"^    pivotrl (.*)$", text, re.M)
    assert len(sections) == 3 and [command.split()[0] for command in commands] == [
        *("read", "evaluate", "profile", "run", "train", "run")
    ]
    with Server() as server:
        for command in commands:
            local = command.replace("HuggingFaceTB/SmolLM2-135M-Instruct", "tiny").replace(
                "http://localhost:8000", server.url
            )
            done(folder, local)
    events = [json.loads(line)["event"] for line in (folder / "events.jsonl").read_text().splitlines()]
    told = [event["event"] for event in server.events]
    assert [event for event in events if event not in ("progress", "notice")] == told[:-1]  # one closes, one posts it
    assert told.count("step") == 5 and told[-1] == "closed"
