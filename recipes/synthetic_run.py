"""A run of any size for trying out the pivot browser: an invented web shop, and a toy policy that acts in it.

    python recipes/synthetic_run.py runs/synthetic                  # 10,000 turns with 8 samples each; minutes
    python recipes/synthetic_run.py runs/small --turns 200
    pivotrl view runs/synthetic

The stages are the real ones, so the record files and manifests are too. Only the logs and the samples are made up: the
policy is a table (``tabular``) whose menu holds near misses and malformed calls, and training changes it at all turns.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl import EvaluationOptions, ProfileOptions, SelectionOptions, TrainingOptions, run
from pivotrl.cli import guarded
from pivotrl.cli.live_progress import live_progress
from pivotrl.judging.lint import CheckOptions
from pivotrl.policies import tabular
from pivotrl.protocols import Turn
from pivotrl.records import Action, Completion, Message, SampleGroup, Sampling, Tool, ToolCall, Trajectory
from pivotrl.rendering import action_text
from pivotrl.verifiers.tool_call import verify

TURNS_EACH = 20
"""Of a trajectory."""
PLACES = ("Aachen", "Bergen", "Cadiz", "Delft", "Evora", "Fano", "Ghent", "Hvar", "Izmir", "Jena", "Kotor", "Lugano")
THINGS = ("lamp", "kettle", "desk", "tent", "scarf", "drill", "clock", "stove", "piano", "globe", "ladder", "skates")
STATES = ("waiting", "packed", "sent", "delivered", "returned", "lost")
THOUGHTS = (
    "The customer wants this done now, and I have all I need.",
    "First look at the order, then decide.",
    "The address on file may be old. The policy says to check before sending.",
    "A refund needs the order number and the amount that was paid.",
    "Nothing else is open in this conversation.",
)


def _tool(name: str, about: str, **properties: str) -> Tool:
    schema = {"type": "object", "properties": {key: {"type": kind} for key, kind in properties.items()}}
    return Tool(name=name, description=about, parameters={**schema, "required": list(properties)})


TOOLS = (
    _tool("find_orders", "All orders of a customer.", customer="string"),
    _tool("get_order", "One order with its items and their prices.", order="string"),
    _tool("refund", "Pay money back.", order="string", amount="number", reason="string"),
    _tool("change_address", "Send an order elsewhere.", order="string", city="string", street="string"),
    _tool("ship", "Send an order that waits.", order="string", carrier="string"),
)


def read(path: Path) -> Iterator[Trajectory]:
    """Trajectories of the shop. The path is their number and the seed of their content: ``500-0``."""
    number, _, seed = path.name.partition("-")
    for index in range(int(number)):
        yield _conversation(f"shop-{seed}-{index:05d}", random.Random(f"{seed}/{index}"))  # noqa: S311


def _conversation(name: str, draw: random.Random) -> Trajectory:
    messages = [Message(role="system", content="You serve the customers of a web shop. Look before you act.")]
    customer = f"{draw.choice(PLACES).lower()}_{draw.randrange(10**6):06d}"
    messages.append(Message(role="user", content=f"Hello, I am {customer}. {_wish(draw)}"))
    for turn in range(TURNS_EACH):
        if turn % 5 == 4 or turn == TURNS_EACH - 1:
            told = f"Order {_order(draw)} is {draw.choice(STATES)}. Would you like me to do anything else?"
            messages.append(Message(role="assistant", content=told, reasoning=draw.choice(THOUGHTS)))
            if turn < TURNS_EACH - 1:
                messages.append(Message(role="user", content=_wish(draw)))
            continue
        call = _call(draw, customer).model_copy(update={"id": f"call_{turn}"})
        messages.append(Message(role="assistant", tool_calls=(call,), reasoning=draw.choice(THOUGHTS)))
        messages.append(Message(role="tool", content=_result(draw), tool_call_id=call.id))
    return Trajectory(id=name, task_id=name, messages=tuple(messages), tools=TOOLS, reward=1.0)


def _order(draw: random.Random) -> str:
    return f"W{draw.randrange(10**7):07d}"


def _wish(draw: random.Random) -> str:
    thing, place, order = draw.choice(THINGS), draw.choice(PLACES), _order(draw)
    return draw.choice(
        (
            f"My {thing} (order {order}) has not arrived in {place}. Where is it?",
            f"Please send order {order} to {place} instead, {draw.randrange(1, 200)} Harbour Street.",
            f"The {thing} that I got is broken. I want my money for {order} back.",
            f"Can you tell me what I paid for the {thing} in order {order}?",
        )
    )


def _call(draw: random.Random, customer: str) -> ToolCall:
    arguments: dict[str, dict[str, Any]] = {
        "find_orders": {"customer": customer},
        "get_order": {"order": _order(draw)},
        "refund": {"order": _order(draw), "amount": draw.randrange(500, 90000) / 100, "reason": "broken"},
        "change_address": {"order": _order(draw), "city": draw.choice(PLACES), "street": f"{draw.randrange(99)} Quay"},
        "ship": {"order": _order(draw), "carrier": draw.choice(("post", "van", "bicycle"))},
    }
    name = draw.choice(list(arguments))
    return ToolCall(name=name, arguments=json.dumps(arguments[name]))


def _result(draw: random.Random) -> str:
    orders = [
        {
            "order": _order(draw),
            "item": draw.choice(THINGS),
            "price": draw.randrange(500, 90000) / 100,
            "state": draw.choice(STATES),
            "city": draw.choice(PLACES),
        }
        for _ in range(draw.randrange(1, 5))
    ]
    return json.dumps({"ok": True, "orders": orders}, indent=2 if draw.random() < 0.3 else None)


class Policy(tabular.Policy):
    """A table over near misses. Training at some turns changes it at all others too, mostly for the better."""

    def menu(self, turn: Turn) -> tuple[Action, ...]:
        draw = random.Random(f"{self.seed}/{turn.id}")  # noqa: S311
        messages = turn.trajectory.messages
        right = turn.expected_action if turn.index < len(messages) else Action(content="Good-bye.")
        entries = {action_text(right): right}
        for action in self._wrong(right, draw):
            entries.setdefault(action_text(action), action)
        while len(entries) <= self.num_alternatives:
            action = Action(content=_wish(draw))
            entries.setdefault(action_text(action), action)
        return tuple(entries.values())[: self.num_alternatives + 1]

    def _wrong(self, right: Action, draw: random.Random) -> Iterator[Action]:
        for call in right.tool_calls:
            arguments = json.loads(call.arguments)
            name = draw.choice(list(arguments))
            other = {**arguments, name: _order(draw) if isinstance(arguments[name], str) else arguments[name] + 1}
            yield Action(tool_calls=(ToolCall(name=call.name, arguments=json.dumps(other)),))
            without = {key: value for key, value in arguments.items() if key != name}
            yield Action(tool_calls=(ToolCall(name=call.name, arguments=json.dumps(without)),))
            yield Action(content=f"Shall I call {call.name} for {_order(draw)}?")
        yield Action(tool_calls=(_call(draw, "nobody"),))
        yield Action(content=_wish(draw))

    def sample(
        self, turns: Sequence[Turn], num_samples: int, sampling: Sampling, first: int = 0
    ) -> Iterator[SampleGroup]:
        for group in super().sample(turns, num_samples, sampling, first):
            told = (self._told(c, group.turn_id, first + n) for n, c in enumerate(group.completions_G))
            yield group.model_copy(update={"completions_G": tuple(told)})

    def _told(self, completion: Completion, turn_id: str, number: int) -> Completion:
        """With a thought before the action; some of the last entry of the menu are malformed or cut off."""
        draw = random.Random(f"{turn_id}/{number}")  # noqa: S311
        text = f"<think>\n{draw.choice(THOUGHTS)}\n</think>\n\n{completion.text}"
        if completion.token_ids_T[0] == self.num_alternatives and draw.random() < 0.5:
            cut = draw.random() < 0.5
            return completion.model_copy(
                update={
                    "text": text[: len(text) * 2 // 3],
                    "action": Action(),
                    "finish_reason": "length" if cut else "stop",
                    "parse_error": "truncated" if cut else "tool_call_not_closed",
                }
            )
        return completion.model_copy(update={"text": text})

    @property
    def reference(self) -> Policy:
        return Policy(num_alternatives=self.num_alternatives, spread=self.spread, seed=self.seed)

    def _logits(self, turn_id: str) -> Any:
        logits_M = super()._logits(turn_id)
        if self._trained and turn_id not in self._trained:
            logits_M = logits_M.copy()
            logits_M[0] += random.Random(f"shift/{turn_id}").gauss(0.7, 1.0)  # noqa: S311
        return logits_M


def make(directory: Path, num_turns: int, num_samples: int, num_steps: int, resume: bool = False) -> None:
    """The run, with a tenth as many held-out turns."""
    with live_progress() as observer:
        run(
            f"{-(-num_turns // TURNS_EACH)}-0",
            directory,
            reader=read,
            verifier=verify,
            policy=Policy(num_alternatives=5, spread=2.0),
            heldout=f"{-(-num_turns // (10 * TURNS_EACH))}-1",
            profiling=ProfileOptions(num_samples=num_samples),
            checking=CheckOptions(check_turns=20, probes_per_kind=1),
            selection=SelectionOptions(rule="mixed", max_mean=0.8),
            training=TrainingOptions(
                num_steps=num_steps, turns_per_step=64, group_size=num_samples, learning_rate=20.0
            ),
            evaluation=EvaluationOptions(heldout_turns=num_turns // 10, turn_samples=num_samples, turn_temperature=1.0),
            resume=resume,
            observer=observer,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--turns", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--steps", type=int, default=40)
    arguments = parser.parse_args()
    make(arguments.out, arguments.turns, arguments.samples, arguments.steps, resume=arguments.out.is_dir())


if __name__ == "__main__":
    with guarded("the same command"):
        main()
