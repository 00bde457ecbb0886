"""An environment: guess a number. Each task is made when it is played."""

from __future__ import annotations

from collections.abc import Sequence

from pivotrl import Action, Environment, Message, Observation


class Guessing:
    context_window = None

    def __init__(self, secret: int, highest: int, guesses: int) -> None:
        self.task_id, self._secret, self._highest, self._left = f"secret-{secret}", secret, highest, guesses
        self.tags = {"half": "upper" if 2 * secret > highest else "lower"}

    def reset(self) -> list[Message]:
        return [Message(role="user", content=f"Guess a number from 1 to {self._highest}.")]

    def step(self, action: Action) -> Observation:
        self._left -= 1
        guess = int(action.content) if action.content and action.content.isdecimal() else None
        if guess == self._secret:
            return Observation((), reward=1.0, done=True, reason="guessed")
        if not self._left:
            return Observation((), reward=0.0, done=True, reason="out_of_guesses")
        hint = "That is not a number." if guess is None else "Higher." if guess < self._secret else "Lower."
        return Observation((Message(role="user", content=hint),))


class Games:
    def __init__(self, highest: int, guesses: int) -> None:
        self._highest, self._guesses = highest, guesses

    def tasks(self) -> Sequence[str]:
        return [f"secret-{number}" for number in range(1, self._highest + 1)]

    def make(self, task: str) -> Environment:
        return Guessing(int(task.removeprefix("secret-")), self._highest, self._guesses)


def make_environments(*, highest: int = 7, guesses: int = 3) -> Games:
    return Games(highest, guesses)
