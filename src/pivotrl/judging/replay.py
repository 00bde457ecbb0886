"""Restore the state of a turn by replaying the logged actions before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from pivotrl.protocols import Environment, NotRestorable, Turn
from pivotrl.records import Action
from pivotrl.sandbox import SandboxFault


class Sandboxed(Environment, Protocol):
    """An environment that holds a session of a sandbox."""

    def masked(self, text: str) -> str: ...

    def close(self) -> None: ...


S = TypeVar("S", bound=Sandboxed)


def replay(environment: Environment, turn: Turn, masked: Callable[[str], str] = str) -> None:
    """Reset the environment and replay the actions before the turn, without looking at later turns.

    Args:
        masked: removes from a text what may differ between runs.

    Raises:
        NotRestorable: ``replay_differs``: an answer differs from the log, so the state would too.
    """
    shown = [message for message in environment.reset() if message.role != "system"]
    for index, message in enumerate(turn.trajectory.messages[: turn.index]):
        if message.role == "assistant" and index >= turn.trajectory.pinned_messages:
            _require(not shown, f"the log lacks an answer before message {index}")
            observation = environment.step(Action(content=message.content, tool_calls=message.tool_calls))
            _require(not observation.done, f"the episode ends with message {index}: {observation.reason}")
            shown = list(observation.messages)
        elif message.role != "system":
            found, wanted = masked(shown.pop(0).content or "") if shown else None, masked(message.content or "")
            _require(found == wanted, f"message {index} is {found!r:.200} now, not {wanted!r:.200}")
    _require(not shown, f"the log lacks an answer before {turn.id}")


def replayed(environment: S, turn: Turn) -> S:
    """The environment in the state of the turn; closed if it cannot be brought there.

    Raises:
        NotRestorable: ``replay_differs``; ``sandbox_failed``.
    """
    try:
        replay(environment, turn, environment.masked)
    except SandboxFault as error:
        environment.close()
        raise NotRestorable("sandbox_failed", str(error)) from error
    except NotRestorable:
        environment.close()
        raise
    return environment


def _require(condition: bool, detail: str) -> None:
    if not condition:
        raise NotRestorable("replay_differs", detail)
