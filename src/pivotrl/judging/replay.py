"""The state of a turn by doing again what the log says was done before it."""

from __future__ import annotations

from collections.abc import Callable

from pivotrl.protocols import Environment, NotRestorable, Turn
from pivotrl.records import Action


def replay(environment: Environment, turn: Turn, masked: Callable[[str], str] = str) -> None:
    """Reset the environment and take the actions that stand before the turn; nothing of later turns is looked at.

    Args:
        masked: a text without what may differ from run to run.

    Raises:
        NotRestorable: ``replay_differs``: an answer is not the logged one, so the state would be another.
    """
    shown = list(environment.reset())
    for index, message in enumerate(turn.trajectory.messages[: turn.index]):
        if message.role == "assistant":
            _require(not shown, f"before message {index} the log lacks an answer")
            observation = environment.step(Action(content=message.content, tool_calls=message.tool_calls))
            _require(not observation.done, f"the episode ends with message {index}: {observation.reason}")
            shown = list(observation.messages)
        elif message.role != "system":
            found, wanted = masked(shown.pop(0).content or "") if shown else None, masked(message.content or "")
            _require(found == wanted, f"message {index} is {found!r:.200} now, not {wanted!r:.200}")
    _require(not shown, f"before {turn.id} the log lacks an answer")


def _require(condition: bool, detail: str) -> None:
    if not condition:
        raise NotRestorable("replay_differs", detail)
