"""The subcommand that plays a published benchmark."""

from __future__ import annotations

import re
from pathlib import Path

import tyro

from pivotrl import plugins
from pivotrl.cli.bench_table import print_bench
from pivotrl.cli.choices import Price
from pivotrl.cli.watching import Watching
from pivotrl.options import refuse
from pivotrl.plugins.extras import load_package
from pivotrl.plugins.shapes import require_harness
from pivotrl.protocols.harness import Harness, Player
from pivotrl.runs.directory import require_place_for_bench
from pivotrl.runs.lock import RunLock
from pivotrl.runs.replacing import finish_moves
from pivotrl.serving.choosing import AFTER, BEFORE
from pivotrl.serving.options import EngineOptions
from pivotrl.stages.benching import BenchOptions, bench_stage
from pivotrl.stages.benching.endpoints import (
    GOLD,
    Contestant,
    contestant_of_run,
    gold_contestant,
    outside_contestant,
    outside_player,
    require_answer,
)


def bench(
    harness: tyro.conf.Positional[str],
    directory: tyro.conf.Positional[Path],
    bench: BenchOptions,
    engine: EngineOptions,
    watching: Watching,
    price: Price,
    player: tuple[str, ...] | None = None,
    endpoint: str | None = None,
    model: str | None = None,
    key_variable: str | None = None,
    simulator_endpoint: str | None = None,
    simulator_model: str | None = None,
    simulator_key_variable: str | None = None,
    training: str | None = None,
    policy: str | None = None,
    name: str | None = None,
    harness_python: Path | None = None,
    retry: bool = False,
    overwrite: bool = False,
    json: bool = False,
) -> None:
    """Play a published benchmark before and after training, and compare. Resumes where it stopped.

    The benchmark's own program is installed once, in an environment of its own, and asks an endpoint that this command
    starts. What it writes is kept in bench/<name>/<player>/.

    Args:
        harness: The benchmark with options, such as tau2 or "bfcl(category='simple_python')". See
            `pivotrl list harnesses`.
        directory: A run directory; for gold or --endpoint any directory.
        player: Who plays: before, after (both by default), or gold, a script that gives the gold answers.
        endpoint: An OpenAI-compatible endpoint whose model plays instead, up to /v1.
        model: Its name there; what it plays is kept under this name, or under the one given with --player.
        key_variable: Name of the environment variable that holds the key of the endpoint.
        simulator_endpoint: Endpoint of the model that plays the user, for benchmarks that have one.
        simulator_model: Its name there.
        simulator_key_variable: Name of the environment variable that holds its key.
        training: Name of the run's training; default is the run's own.
        policy: How the model acts, such as "hf(style='chatml')"; a run knows it already.
        name: Keep the results under this name; default is the name of the harness.
        harness_python: Interpreter of your own environment with the harness; nothing is installed then.
        retry: Play the trials that have no verdict again.
        overwrite: Move what these players have played at this benchmark to replaced/ and start again.
        json: Print the numbers as JSON.
    """
    for package in ("uvicorn", "starlette", "httpx"):
        load_package(package, "pivotrl bench")
    chosen = plugins.load("harnesses", harness)
    require_harness(chosen)
    simulator = _simulator(simulator_endpoint, simulator_model, simulator_key_variable)
    require_place_for_bench(directory)
    if endpoint is not None or model is not None:
        players = [_outside(endpoint, model, key_variable, player)]
    else:
        players = [_inside(directory, one, chosen, training, policy, engine) for one in player or (BEFORE, AFTER)]
    bench_name = name or re.sub(r"[^\w-]+", "-", plugins.parse_spec(harness)[0].partition(":")[0])
    with RunLock(directory), watching.observer(directory=directory, price_per_hour=price.price_per_hour) as observer:
        finish_moves(directory)
        for one in players:
            bench_stage(
                directory,
                bench_name,
                one,
                harness=chosen,
                bench=bench,
                simulator=simulator,
                harness_python=harness_python,
                retry=retry,
                overwrite=overwrite,
                observer=observer,
            )
    print_bench(directory, bench_name, json)


def _inside(
    directory: Path, player: str, harness: Harness, training: str | None, policy: str | None, engine: EngineOptions
) -> Contestant:
    if player == GOLD:
        return gold_contestant(harness)
    if player not in (BEFORE, AFTER):
        refuse("player", player, "is unknown; there are before, after and gold, or give --endpoint and --model")
    return contestant_of_run(directory, player, training, policy, engine)


def _outside(
    endpoint: str | None, model: str | None, key_variable: str | None, player: tuple[str, ...] | None
) -> Contestant:
    if endpoint is None or model is None:
        given, other = ("endpoint", "model") if model is None else ("model", "endpoint")
        refuse(given, endpoint or model, f"needs --{other} too")
    if player is not None and (len(player) > 1 or player[0] in (BEFORE, AFTER, GOLD)):
        refuse("player", " ".join(player), "names the endpoint's results here: give one other name")
    name = player[0] if player else re.sub(r"[^\w-]+", "-", model).strip("-")[:64]
    return outside_contestant(name, outside_player(endpoint, model, key_variable, "endpoint"))


def _simulator(endpoint: str | None, model: str | None, key_variable: str | None) -> Player | None:
    if endpoint is None and model is None:
        return None
    if endpoint is None or model is None:
        given, other = ("endpoint", "model") if model is None else ("model", "endpoint")
        refuse(f"simulator_{given}", endpoint or model, f"needs --simulator-{other} too")
    found = outside_player(endpoint, model, key_variable, "simulator-endpoint")
    require_answer(found)
    return found
