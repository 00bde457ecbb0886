"""How long a batch of verdicts takes: a judge with 1 or 32 verdicts under way, and `tool_call` in 1 or 2 processes.

    python benchmarks/bench_verification.py

The judge asks a local server that answers each request after a second; a verdict takes two requests at one time. The
rules judge what `bench_verifiers.py` makes of the tau-bench airline episodes. For each repetition their processes are
forked anew and warmed up on a few turns, so that no other text is remembered. The contestants take turns (ABBA).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from bench_verifiers import SOURCES, real_turns, work
from host import machine
from measuring import interleave, ratio_interval
from pivotrl.judging.guarded import Verification, VerificationOptions
from pivotrl.protocols import Turn, Verifier
from pivotrl.records import Action, Verdict
from pivotrl.verifiers import tool_call
from pivotrl.verifiers.judge import Judge
from results import command_line, save

HERE = Path(__file__).parent
NUM_WARMING = 40
CPU = torch.device("cpu")
Cases = Sequence[tuple[Turn, Action]]


def judge_all(verifier: Verifier, options: VerificationOptions, cases: Cases) -> list[Verdict]:
    with Verification(verifier, options) as guarded:
        return guarded.judge_all(cases)


def row(name: str, number: int, seconds: Sequence[float]) -> dict[str, Any]:
    median = statistics.median(seconds)
    per_second = number / median
    return {
        **{"name": name, "verdicts": number, "seconds": list(seconds)},
        **{"median_seconds": median, "verdicts_per_second": per_second},
    }


# --- a judge ------------------------------------------------------------------------------------------------------


async def answer_late(seconds: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Every request of a connection: the same verdict, after so many seconds."""
    content = json.dumps({"why": "So it is.", "verdict": "same"})
    text = json.dumps({"choices": [{"message": {"content": content}, "finish_reason": "stop"}]}).encode()
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
            await asyncio.sleep(seconds)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text))
            await writer.drain()
    writer.close()


async def serve(seconds: float) -> None:
    server = await asyncio.start_server(functools.partial(answer_late, seconds), "127.0.0.1", 0, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def server(seconds: float) -> Iterator[str]:
    """In a process of its own; its base URL."""
    command = [sys.executable, __file__, "--serve", str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own file
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.kill()


def judge_rows(turns: Sequence[Turn], number: int, one_by_one: int, seconds: float) -> list[dict[str, Any]]:
    """Every verdict is on another action, so that none is found in a cache or decided without the judge."""
    chosen = [turn for turn in turns if not turn.expected_action.tool_calls]
    cases = [(chosen[i % len(chosen)], Action(content=f"The case has number {i}.")) for i in range(number)]
    rows = []
    with server(seconds) as url:
        for in_flight, some in ((1, cases[:one_by_one]), (32, cases)):
            options = VerificationOptions(max_in_flight=in_flight)
            start = time.perf_counter()
            verdicts = judge_all(Judge(model="m", base_url=url, context_chars=2000), options, some)
            rows.append(row(f"judge, {in_flight} in flight", len(some), [time.perf_counter() - start]))
            assert {verdict.reason for verdict in verdicts} == {"judged_same"}
    faster = rows[1]["verdicts_per_second"] / rows[0]["verdicts_per_second"]
    rows[0]["times_faster"], rows[1]["times_faster"] = (1.0, 1.0, 1.0), (faster, faster, faster)
    return rows


# --- rules --------------------------------------------------------------------------------------------------------


def rule_rows(turns: Sequence[Turn], workers: Sequence[int], repetitions: int) -> list[dict[str, Any]]:
    cases = list(work(list(turns)))
    warming, timed = cases[:NUM_WARMING], cases[NUM_WARMING:]
    found: list[list[Verdict]] = []
    names = {f"tool_call, {number} {'process' if number == 1 else 'processes'}": number for number in workers}
    with contextlib.ExitStack() as stack:
        ready: dict[str, Verification] = {}

        def fork() -> None:
            stack.close()
            for name, number in names.items():
                ready[name] = stack.enter_context(
                    Verification(tool_call.verify, VerificationOptions(num_workers=number))
                )
                for _ in range(3):
                    ready[name].judge_all(warming)

        def contestant(name: str) -> Callable[[int], object]:
            def run(_: int) -> None:
                found.append(ready[name].judge_all(timed))

            return run

        times = interleave({name: contestant(name) for name in names}, repetitions, CPU, between=fork)
    bare = [tool_call.verify(turn, action) for turn, action in timed]  # not before: forks would know all texts
    assert all(verdicts == bare for verdicts in found)
    base = times[next(iter(names))]
    return [row(name, len(timed), own) | {"times_faster": ratio_interval(base, own)} for name, own in times.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loads", nargs="+", choices=["judge", "rules"], default=["judge", "rules"])
    parser.add_argument("--verdicts", type=int, default=1024, help="of the judge with 32 in flight")
    parser.add_argument("--one-by-one", type=int, default=16, help="verdicts of the judge with 1 in flight")
    parser.add_argument("--seconds", type=float, default=1.0, help="that the server takes")
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--turns", type=int, help="of the log; all when left out")
    parser.add_argument("--source", type=Path, default=next(path for path in SOURCES if path.is_file()))
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument("--serve", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve is not None:
        asyncio.run(serve(arguments.serve))
    turns = real_turns(arguments.source)[: arguments.turns]
    for load in arguments.loads:
        is_judge = load == "judge"
        rows = (
            judge_rows(turns, arguments.verdicts, arguments.one_by_one, arguments.seconds)
            if is_judge
            else rule_rows(turns, arguments.workers, arguments.repetitions)
        )
        for one in rows:
            print(f"{one['name']:26}{one['verdicts']:7,} verdicts {one['median_seconds']:8.2f} s", end="")
            print(f"{one['verdicts_per_second']:9.1f} a second{one['times_faster'][0]:7.2f} times")
        setting = f"a local server that takes {arguments.seconds:g} s" if is_judge else f"{len(turns):,} turns"
        host = machine("pivotrl", "httpx") | {"date": time.strftime("%Y-%m-%d"), "device": "cpu"}
        save(
            arguments.out,
            "bench_verification",
            {"load": load, "setting": setting, "rows": rows, "machine": host, "command": command_line()},
        )


if __name__ == "__main__":
    main()
