"""Who plays: the run's policy behind our endpoint, the scripted gold player, or an endpoint that a user names."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from pivotrl.protocols import InputError
from pivotrl.protocols.harness import Gold, Harness, Home, Player
from pivotrl.protocols.observing import Observer, at_work
from pivotrl.runs.checkpoints import checkpoint_sha256
from pivotrl.runs.files import RunFiles
from pivotrl.runs.layout import training_stage
from pivotrl.serving.choosing import AFTER, BEFORE, Choice, choose
from pivotrl.serving.options import EngineOptions

GOLD = "gold"
_HOST, _ANSWER_SECONDS, _MAX_REQUESTS, _MAX_REQUEST_MIB = "127.0.0.1", 30.0, 1024, 64.0


@dataclass(frozen=True)
class Contestant:
    """One who plays, before any model is loaded.

    Attributes:
        facts: what its answers depend on.
        inputs: hashes of files that it was made from, for the manifest.
        opened: an endpoint while it plays, and a check that raises InputError once it is gone.
    """

    name: str
    facts: Mapping[str, Any]
    opened: Callable[[Home, Observer], AbstractContextManager[tuple[Player, Callable[[], None]]]]
    inputs: Mapping[str, str] = field(default_factory=dict)
    training: str | None = None
    is_gold: bool = False


def contestant_of_run(
    directory: Path, name: str, training: str | None, policy: str | None, engine: EngineOptions
) -> Contestant:
    """The run's policy, ``before`` or ``after`` training.

    Args:
        training: name of the training after which it plays; its results bear that name.

    Raises:
        InputError: as :func:`pivotrl.serving.choosing.choose`; or a training has the name of a player.
    """
    if name != AFTER:
        training = None
    if training in (BEFORE, AFTER, GOLD):
        raise InputError(f"a training called {training!r} cannot play: it has the name of another player")
    choice = choose(str(directory), before=name != AFTER, training=training, policy=policy)[0]
    facts = {"model": choice.model, "options": choice.options}
    if Path(choice.model).is_dir():
        facts["model"] = checkpoint_sha256(Path(choice.model))
    if choice.adapter is not None:
        facts["adapter"] = checkpoint_sha256(choice.adapter)
    metrics = f"{training_stage(training)}/metrics.jsonl"
    inputs = {metrics: RunFiles(directory).sha256(metrics)} if name == AFTER else {}

    def opened(home: Home, observer: Observer) -> AbstractContextManager[tuple[Player, Callable[[], None]]]:
        return _serving(choice, engine, observer)

    return Contestant(training or name, facts, opened, inputs, training)


@contextlib.contextmanager
def _serving(choice: Choice, engine: EngineOptions, observer: Observer) -> Iterator[tuple[Player, Callable[[], None]]]:
    from pivotrl.serving.app import Endpoint
    from pivotrl.serving.loading import load
    from pivotrl.serving.server import address_of, in_background, listen

    with listen(_HOST, 0, has_key=False) as bound:
        with at_work(observer, f"loading {choice.root}"):
            (model,) = load([choice], engine, lambda text: None)

        def require() -> None:
            if model.backend.fault:
                raise InputError(f"the endpoint of {choice.name} is gone: {model.backend.fault}")

        try:
            endpoint = Endpoint([model], api_key=None, max_requests=_MAX_REQUESTS, max_request_mib=_MAX_REQUEST_MIB)
            with in_background(endpoint.app, bound):
                yield Player(address_of(bound, _HOST), model.name, can_force_calls=False), require
        finally:
            model.backend.close()


def gold_contestant(harness: Harness) -> Contestant:
    """The scripted player that gives the gold answers: what it fails, no model can be blamed for."""

    @contextlib.contextmanager
    def opened(home: Home, observer: Observer) -> Iterator[tuple[Player, Callable[[], None]]]:
        with serving_gold(harness.gold(home)) as player:
            yield player, lambda: None

    return Contestant(GOLD, {"player": GOLD}, opened, is_gold=True)


@contextlib.contextmanager
def serving_gold(gold: Gold) -> Iterator[Player]:
    from pivotrl.serving.scripted import MODEL, scripted_app
    from pivotrl.serving.server import address_of, in_background, listen

    with listen(_HOST, 0, has_key=False) as bound, in_background(scripted_app(gold), bound):
        yield Player(address_of(bound, _HOST), MODEL, is_gold=True)


def outside_contestant(name: str, player: Player) -> Contestant:
    """A model behind an endpoint that a user names. The address may change; the model may not."""

    @contextlib.contextmanager
    def opened(home: Home, observer: Observer) -> Iterator[tuple[Player, Callable[[], None]]]:
        require_answer(player)
        yield player, lambda: require_answer(player)

    return Contestant(name, {"model": player.model}, opened)


def outside_player(url: str, model: str, key_variable: str | None, role: str) -> Player:
    """
    Args:
        role: ``endpoint`` or ``simulator-endpoint``: the option's name.

    Raises:
        InputError: the address or the key is unusable.
    """
    if not url.startswith(("http://", "https://")):
        raise InputError(f"--{role} {url} is no address; give it up to /v1, such as http://127.0.0.1:8000/v1")
    key = "none"
    if key_variable is not None:
        key = os.environ.get(key_variable, "")
        if not key:
            raise InputError(f"the environment variable {key_variable} is not set; put the endpoint's key into it")
    return Player(url.rstrip("/"), model, key)


def require_answer(player: Player) -> None:
    """Raises:
    InputError: the endpoint does not answer, refuses the key, or has no such model.
    """
    place = f"{player.base_url}/models"
    try:
        answer = httpx.get(
            place, headers={"Authorization": f"Bearer {player.key}"}, timeout=_ANSWER_SECONDS, trust_env=False
        )
    except httpx.HTTPError as error:
        raise InputError(
            f"the endpoint {player.base_url} does not answer ({error or type(error).__name__}); finished tasks are "
            "kept. Start it and then the same command again"
        ) from None
    if answer.status_code in (401, 403):
        raise InputError(
            f"the endpoint {player.base_url} refuses the key (status {answer.status_code}); name the environment "
            "variable that holds it with --key-variable (of a simulator: --simulator-key-variable)"
        )
    if answer.status_code >= 500:
        raise InputError(
            f"the endpoint {player.base_url} is out of order (status {answer.status_code}: {answer.text[:200]}); "
            "finished tasks are kept. Mend it and start the same command again"
        )
    try:
        names = [row["id"] for row in answer.json()["data"]]
    except (ValueError, LookupError, TypeError):
        return  # not every server lists its models
    if names and player.model not in names:
        raise InputError(f"{player.base_url} has no model {player.model!r}; there are {', '.join(names[:20])}")
