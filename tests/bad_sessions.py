"""Logs of sessions and directories of them that cannot be read, or not to their end."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bad_files import BadFile, bad, flipped, put
from bad_rows import ANSWER, FORMATS, USER, encoded
from pivotrl.reading.sources import head


def copied(place: str, folder: Path, change: Callable[[Path], Any], name: str = "copied") -> Path:
    source = FORMATS / place
    path = folder / (name if source.is_dir() else source.name)
    (shutil.copytree if source.is_dir() else shutil.copy)(source, path)
    change(path)
    return path


def cut_in_half(place: str, path: Path) -> None:
    (file,) = path.glob(place) if place else (path,)
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])


def line_replaced(number: int, line: bytes, path: Path) -> None:
    lines = path.read_bytes().split(b"\n")
    lines[number - 1] = line
    path.write_bytes(b"\n".join(lines))


def without_line(kind: str, path: Path) -> None:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    first = next(line for line in lines if line["type"] == kind)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines if line is not first))


def zipped(name: str, data: bytes, folder: Path) -> Path:
    with zipfile.ZipFile(folder / "other.eval", "w") as archive:
        archive.writestr(name, data)
    return folder / "other.eval"


def spoilt_member(folder: Path) -> Path:
    data = (FORMATS / "inspect_ai" / "delegation.eval").read_bytes()
    return put("spoilt.eval", flipped(data, data.index(b"samples/ask_epoch_1.json") + 200), folder)


def simulations(folder: Path) -> Path:
    path = folder / "run"
    (path / "simulations").mkdir(parents=True)
    (path / "results.json").write_text('{"info": {}, "simulations": []}')
    return path


def no_answers(path: Path) -> None:
    for file in path.glob("agent-logs/episode-*/response.txt"):
        file.unlink()


def prompt_in_latin_1(path: Path) -> None:
    for file in path.glob("agent-logs/episode-*/debug.json"):
        file.unlink()
    (path / "agent-logs" / "episode-0" / "prompt.txt").write_bytes(b"Stra\xdfe")


FENCE = "```mswea_bash_command\nls\n```"
RUN = "terminal_bench/hello-json/hello-json.1-of-1.run"
COMPLETIONS = "openhands_completions/native"
FIRST_COMPLETION = min((FORMATS / COMPLETIONS).iterdir()).name
FIRST_EVENT = min((FORMATS / "openhands_sdk" / "conversation" / "events").iterdir()).name
SIXTH_EVENT = sorted((FORMATS / "openhands_sdk" / "conversation" / "events").iterdir())[5].name
CODEX = (FORMATS / "codex" / "old.jsonl").read_bytes()
NUM_CODEX = CODEX.count(b"\n")
RESPONSES = [*head(FORMATS / "responses" / "weather.json"), {"type": "function_call"}]

SESSIONS: list[BadFile] = [
    bad(
        "codex_cut_off",
        "a.jsonl",
        CODEX[:-40],
        "the session is read up to here",
        "{0}:52 (byte 13487)",
        num_kept=2,
        reader="codex",
    ),
    bad("codex_first_line_lost", "a.jsonl", b"{\n" + CODEX, "is not JSON", "{0}:2", reader="codex"),
    bad(
        "codex_payload_text",
        "a.jsonl",
        CODEX + b'{"type": "response_item", "payload": "x"}\n',
        "payload is string",
        reader="codex",
    ),
    bad("codex_no_turns", "a.jsonl", CODEX.split(b"\n")[0] + b"\n", "there is nothing by the agent", reader="codex"),
    BadFile(
        "claude_request_lost",
        partial(copied, "claude_code/requests.jsonl", change=partial(without_line, "api-request-blob")),
        "of a request is not in the log",
        reader="claude_code",
    ),
    BadFile(
        "claude_line_not_json",
        partial(copied, "claude_code/branch.jsonl", change=partial(line_replaced, 4, b"{")),
        "the session is read up to here",
        "{0}:4 (byte 1500)",
        num_kept=1,
        reader="claude_code",
    ),
    BadFile(
        "completion_cut_off",
        partial(copied, COMPLETIONS, change=partial(cut_in_half, FIRST_COMPLETION)),
        "is not JSON",
        f"{{0}}/{FIRST_COMPLETION}:1",
        num_kept=1,
        reader="openhands_completions",
    ),
    BadFile(
        "event_cut_off",
        partial(copied, "openhands_events/store/demo/events", change=partial(cut_in_half, "7.json")),
        "the session is read up to here",
        "{0}/7.json:1",
        num_kept=1,
        reader="openhands_events",
    ),
    BadFile(
        "first_event_cut_off",
        partial(copied, "openhands_events/store/demo/events", change=partial(cut_in_half, "0.json")),
        "the session is read up to here",
        "{0}/0.json:1",
        reader="openhands_events",
    ),
    BadFile(
        "sdk_event_cut_off",
        partial(copied, "openhands_sdk/conversation", change=partial(cut_in_half, f"events/{SIXTH_EVENT}")),
        "the session is read up to here",
        f"{{0}}/events/{SIXTH_EVENT}:1",
        num_kept=1,
        reader="openhands_sdk",
    ),
    BadFile(
        "sdk_first_event_cut_off",
        partial(copied, "openhands_sdk/conversation", change=partial(cut_in_half, f"events/{FIRST_EVENT}")),
        "the session is read up to here",
        f"{{0}}/events/{FIRST_EVENT}:1",
        reader="openhands_sdk",
    ),
    BadFile(
        "inspect_cut_off",
        partial(copied, "inspect_ai/arithmetic.eval", change=partial(cut_in_half, "")),
        "is not a readable zip file",
        reader="inspect_ai",
    ),
    BadFile("inspect_without_header", partial(zipped, "notes.txt", b"x"), "it has no header.json", reader="inspect_ai"),
    BadFile(
        "inspect_header_text",
        partial(zipped, "header.json", b'"x"'),
        "header.json: expected an object",
        reader="inspect_ai",
    ),
    BadFile(
        "inspect_not_a_log",
        partial(zipped, "header.json", b"{}"),
        "does not say what was evaluated",
        reader="inspect_ai",
    ),
    BadFile(
        "inspect_sample_spoilt",
        spoilt_member,
        "cannot be unpacked",
        "{0}, samples/ask_epoch_1.json",
        reader="inspect_ai",
    ),
    BadFile("tau2_results_without_a_run", simulations, "is not a result of tau2-bench", reader="tau2_bench"),
    BadFile(
        "trial_without_answers",
        partial(copied, RUN, change=no_answers),
        "no episode holds an answer",
        "{0}/agent-logs",
        reader="terminal_bench",
    ),
    BadFile(
        "prompt_not_utf8",
        partial(copied, RUN, change=prompt_in_latin_1),
        "episode-0/prompt.txt cannot be read as text",
        "{0}/agent-logs",
        reader="terminal_bench",
    ),
    BadFile(
        "trial_cut_off",
        partial(copied, "terminus/hello-file__parsed", change=partial(cut_in_half, "agent/trajectory.json")),
        "is not JSON",
        "{0}/agent/trajectory.json:29",
        reader="terminus",
    ),
    bad(
        "items_spoilt", "a.jsonl", b"\n".join(map(encoded, RESPONSES)), "input[9]: name is missing", reader="responses"
    ),
    bad(
        "bare_list_with_a_fault",
        "a.jsonl",
        b"\n".join([encoded(USER), encoded({**ANSWER, "content": FENCE}), b"{"]),
        "is not JSON",
        reader="mini_swe_agent",
    ),
]
