"""Does the exported policy of a run, loaded without pivotrl, do what the report says?

    python recipes/check_export.py                          # runs/quickstart, as `make check-export`
    python recipes/check_export.py runs/mine --verifier mine:verify --turns 50

`recipes/stranger.py` loads ``train/policy`` with transformers and peft in a process of its own. It writes the prompts
of the held-out turns with the exported chat template, scores the recorded answers and samples new ones. Then:

- every prompt is the recorded one, token by token (by its hash);
- every recorded answer has its recorded log-probabilities, to 1e-3;
- the new samples pass as often as the report says, within its interval.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pivotrl.evaluation import turn_accuracy
from pivotrl.plugins import load
from pivotrl.protocols import InputError, Turn, Verifier
from pivotrl.records import Trajectory, TurnResult
from pivotrl.rendering import Renderer, prompt_hash
from pivotrl.rollouts import judge_action
from pivotrl.runs.manifest import read_manifest
from pivotrl.storage.record_files import read_records

TOLERANCE = 1e-3


def conversation(turn: Turn) -> dict[str, Any]:
    """What a turn is to a chat template."""
    messages = []
    for message in turn.context:
        calls = [
            {"type": "function", "function": {"name": call.name, "arguments": json.loads(call.arguments)}}
            for call in message.tool_calls
        ]
        messages.append({"role": message.role, "content": message.content} | ({"tool_calls": calls} if calls else {}))
    tools = [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
        }
        for tool in turn.trajectory.tools
    ]
    return {"messages": messages, "tools": tools}


def recorded(run: Path, most: int | None) -> Iterator[tuple[Turn, TurnResult]]:
    """The held-out turns of the run with what the trained policy did at them."""
    trajectories = {whole.id: whole for whole in read_records(run / "heldout.jsonl", Trajectory)}
    for result in list(read_records(run / "evaluations" / "after.turns.jsonl", TurnResult))[:most]:
        trajectory_id, _, index = result.turn_id.rpartition("#")
        yield Turn(trajectories[trajectory_id], int(index)), result


def check(run: Path, verifier: Verifier, most: int | None = None) -> list[str]:
    """What is wrong; empty when the export does what the report says."""
    from transformers import AutoTokenizer

    pairs, policy = list(recorded(run, most)), run / "train" / "policy"
    options = read_manifest(run / "evaluations" / "after.manifest.json").options
    renderer = Renderer(AutoTokenizer.from_pretrained(policy), "template")
    temperature = options["eval_temperature"] if options["turn_temperature"] is None else options["turn_temperature"]
    asked = {
        "temperature": temperature,
        "max_tokens": options["eval_max_tokens"],
        "num_samples": options["turn_samples"],
        "eos_token_id": sorted(renderer.stop_ids),
    }
    rows = [conversation(turn) | asked | {"token_ids": result.token_ids_T} for turn, result in pairs]
    command = [sys.executable, str(Path(__file__).with_name("stranger.py")), str(policy)]
    answers = []
    with tempfile.TemporaryFile("w+") as asked_file:
        asked_file.writelines(json.dumps(row) + "\n" for row in rows)
        asked_file.seek(0)
        with subprocess.Popen(command, stdin=asked_file, stdout=subprocess.PIPE, text=True) as stranger:  # noqa: S603
            for line in stranger.stdout or ():
                answers.append(json.loads(line))
                if len(answers) % 8 == 0:
                    print(f"{len(answers)}/{len(rows)} turns played by the loaded policy", file=sys.stderr, flush=True)
    if stranger.returncode:
        return [f"{policy} cannot be loaded without pivotrl; its words are above"]

    faults, again, largest = [], [], 0.0
    for (turn, result), answer in zip(pairs, answers, strict=True):
        if prompt_hash(answer["prompt"]) != result.prompt_sha256:
            faults.append(f"{turn.id}: the exported chat template writes another prompt than the one that was measured")
        gaps = [abs(old - new) for old, new in zip(result.logprobs_T, answer["logprobs"], strict=True)]
        largest = max(largest, *gaps)
        rewards = [_reward(turn, ids, renderer, verifier) for ids in answer["samples"]]
        known = [reward for reward in rewards if reward is not None]
        again.append(result.model_copy(update={"reward": sum(known) / len(known) if known else None}))
    if not largest <= TOLERANCE:
        faults.append(f"a recorded log-probability differs by {largest:.4f}, more than {TOLERANCE}")
    reported, found = turn_accuracy([result for _, result in pairs]), turn_accuracy(again)
    print(f"{len(pairs)} held-out turns, {sum(len(r.token_ids_T) for _, r in pairs)} recorded tokens")
    print(f"largest difference of a log-probability: {largest:.2g}")
    if reported is None or found is None:
        return [*faults, "no turn has a verdict"]
    interval = f"[{reported.low:.1%}, {reported.high:.1%}]"
    print(f"pass rate: recorded {reported.mean:.1%} {interval}, loaded {found.mean:.1%}")
    if not reported.low <= found.mean <= reported.high:
        faults.append(f"the loaded policy passes {found.mean:.1%}, outside the recorded interval {interval}")
    return faults


def _reward(turn: Turn, token_ids: list[int], renderer: Renderer, verifier: Verifier) -> float | None:
    ends = [place for place, token_id in enumerate(token_ids) if token_id in renderer.stop_ids]
    if not ends:
        return 0.0  # cut off, which fails in pivotrl too
    action, error = renderer.parse(renderer.decode(token_ids[: ends[0] + 1]), turn)
    return 0.0 if error else judge_action(turn, action, verifier).reward


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, nargs="?", default=Path("runs/quickstart"))
    parser.add_argument("--verifier", default="textworld")
    parser.add_argument("--turns", type=int, help="at most so many")
    arguments = parser.parse_args()
    try:
        faults = check(arguments.run, load("verifiers", arguments.verifier), arguments.turns)
    except InputError as error:
        faults = [str(error)]
    for fault in faults:
        print(fault, file=sys.stderr)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
