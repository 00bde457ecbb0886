"""Which kinds of question can the untouched model answer better than by chance? Makes the committed battery.

    pip download --no-deps --no-binary :all: bigbench==1.0.0    # 358 MB: the questions of BIG-bench
    python recipes/questions/choose.py bigbench-1.0.0.tar.gz      # 10 minutes on one idle core; goes on

A pool of 48 kinds of question is asked of SmolLM2-135M-Instruct. Half of the questions of a kind choose it or not,
the other half tells how well it was chosen, and only that half becomes part of the battery. So no question is there
because the model happened to know it. The rule, fixed beforehand: a kind is kept if the lower end of the 95 % interval
lies above chance in the first half. Chance is

- for options: what is larger of 1 / (number of options) and the share of the most frequent answer;
- for generated tasks: the share of the most frequent answer;
- for instructions: how often the model's answer to the same request without the instruction happens to follow it.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pivotrl.cli import guarded
from pivotrl.cli.live_progress import live_progress
from pivotrl.evaluation import EvaluationOptions, answer_accuracy, answer_verifier, evaluate_answers, load_questions
from pivotrl.intervals import Estimate, PairedDifference, paired_difference
from pivotrl.policies.hf import Policy
from pivotrl.records import AnswerResult
from pivotrl.storage.record_files import timestamp, write_file

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import bigbench  # noqa: E402
import following  # noqa: E402
import generated  # noqa: E402

MODEL = "smollm2-135m-instruct"
MOST = 24
"""Questions of a kind in the battery."""
_EXTRA = ("expected", "half")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bigbench", type=Path, help="the source distribution bigbench-1.0.0.tar.gz")
    parser.add_argument("--out", type=Path, default=Path("runs/battery"))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    pool_file = arguments.out / "pool.jsonl"
    pool = halves(
        [*bigbench.questions(arguments.bigbench, arguments.seed), *generated.questions(arguments.seed)], arguments.seed
    )
    pool += following_halves()
    write_file(pool_file, _lines(pool))
    questions = load_questions(pool_file)
    judge, policy = answer_verifier(questions), Policy(model=MODEL)
    with live_progress() as observer:
        results = evaluate_answers(
            policy, questions, judge, arguments.out / "answers.jsonl", EvaluationOptions(eval_batch=32), observer
        )
    kinds = judged(pool, results)
    kept = {name for name, kind in kinds.items() if kind["kept"]}
    battery = [
        {key: value for key, value in question.items() if key not in _EXTRA}
        for source in sorted(kept)
        for question in [row for row in pool if row["source"] == source and row["half"] == 1][:MOST]
    ]
    write_file(HERE / "battery.jsonl", _lines(battery))
    told = {
        "command": f"python recipes/questions/choose.py bigbench-1.0.0.tar.gz --seed {arguments.seed}",
        "model": MODEL,
        "seed": arguments.seed,
        "date": timestamp(),
        "machine": f"one core, {platform.machine()}, no GPU",
        "questions_in_pool": len(pool),
        "kinds": kinds,
    }
    write_file(HERE / "chosen.json", json.dumps(told, indent=1) + "\n")
    for name, kind in kinds.items():
        print(f"{'kept' if kind['kept'] else '    '} {name}: {kind['first']} {kind['second']}")
    print(f"{len(kept)} of {len(kinds)} kinds, {len(battery)} questions")


def halves(questions: Sequence[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """Each with its half, 0 or 1, drawn kind by kind."""
    by_kind = defaultdict(list)
    for question in questions:
        by_kind[question["source"]].append(question)
    return [
        {**question, "half": place % 2}
        for kind, its in by_kind.items()
        for place, question in enumerate(random.Random(f"{seed} {kind}").sample(its, len(its)))  # noqa: S311
    ]


def following_halves() -> list[dict[str, Any]]:
    """The same requests are in the same half for every instruction."""
    return [{**question, "half": int(question["id"].rpartition("/")[2]) % 2} for question in following.questions()]


def judged(pool: Sequence[dict[str, Any]], results: Sequence[AnswerResult]) -> dict[str, dict[str, Any]]:
    """Kind -> accuracy, chance and their intervals in either half, and whether it is kept."""
    found = {result.item_id: result for result in results}
    by_kind = defaultdict(list)
    for question in pool:
        by_kind[question["source"]].append(question)
    alone = {row["id"].rpartition("/")[2]: found[row["id"]] for row in by_kind.pop("instructions/alone")}
    kinds = {}
    for kind, rows in by_kind.items():
        first, second = (_half([row for row in rows if row["half"] == half], found, alone) for half in (0, 1))
        kinds[kind] = {"kept": first["above_chance"][0] > 0, "first": first, "second": second}
    return kinds


def _half(
    rows: Sequence[dict[str, Any]], found: dict[str, AnswerResult], alone: dict[str, AnswerResult]
) -> dict[str, Any]:
    results = [found[row["id"]] for row in rows]
    accuracy = answer_accuracy(results)
    assert accuracy is not None
    if rows[0]["source"].startswith("instructions/"):
        gained = _by_instruction(rows, found, alone)
        chance, above = gained.mean_before, (gained.low, gained.high)
    else:
        chance = _blind(rows)
        above = accuracy.low - chance, accuracy.high - chance
    return {
        "questions": accuracy.num_items,
        "right": round(accuracy.mean, 4),
        "interval": _rounded(accuracy),
        "chance": round(chance, 4),
        "above_chance": [round(end, 4) for end in above],
    }


def _rounded(estimate: Estimate) -> list[float]:
    return [round(estimate.low, 4), round(estimate.high, 4)]


def _blind(rows: Sequence[dict[str, Any]]) -> float:
    """The best that is possible without reading the question."""
    most_frequent = Counter(row["expected"] for row in rows).most_common(1)[0][1] / len(rows)
    guessed = statistics.fmean(1 / len(row["options"]) for row in rows) if "options" in rows[0] else 0.0
    return max(most_frequent, guessed)


def _by_instruction(
    rows: Sequence[dict[str, Any]], found: dict[str, AnswerResult], alone: dict[str, AnswerResult]
) -> PairedDifference:
    """From the request alone to the request with the instruction."""
    name = rows[0]["source"].partition("/")[2]
    before, after, requests = [], [], []
    for row in rows:
        request, result = row["id"].rpartition("/")[2], found[row["id"]]
        plain = alone[request]
        if result.reward is not None and plain.reward is not None:
            is_whole = not plain.num_cut_off
            text = plain.text.removesuffix("<|im_end|>")
            before.append(float(is_whole and following.follows_by_chance(name, text)))
            after.append(result.reward)
            requests.append(request)
    return paired_difference(before, after, requests)


def _lines(rows: Sequence[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


if __name__ == "__main__":
    with guarded("the same command"):
        main()
