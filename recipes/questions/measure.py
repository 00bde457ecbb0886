"""Measures policies with the committed battery, each beside the model that it came from.

    python recipes/questions/measure.py quickstart=runs/quickstart/train/policy --noise 0.1

An item that is in the file of an earlier start is not asked again; the answers of the untouched model are those that
`choose.py` stored. ``--noise`` adds a control that must score worse: the same model with Gaussian noise on every weight
matrix, so many standard deviations of that matrix wide.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
from pathlib import Path
from typing import Any

import torch

from pivotrl.cli import guarded
from pivotrl.cli.live_progress import live_progress
from pivotrl.evaluation import EvaluationOptions, answer_verifier, evaluate_answers, load_questions
from pivotrl.policies.hf import Policy
from pivotrl.records import AnswerResult
from pivotrl.report.evaluations import answer_scores
from pivotrl.storage.record_files import timestamp, write_file

HERE = Path(__file__).parent
MODEL = "smollm2-135m-instruct"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("policies", nargs="*", help="name=folder of an adapter")
    parser.add_argument("--noise", type=float, nargs="*", default=[], help="standard deviations of each weight matrix")
    parser.add_argument("--out", type=Path, default=Path("runs/battery"))
    arguments = parser.parse_args()
    questions = load_questions(HERE / "battery.jsonl")
    judge, asked = answer_verifier(questions), {question["id"] for question in questions}

    def measured(policy: Policy, file: str) -> list[AnswerResult]:
        with live_progress() as observer:
            options = EvaluationOptions(eval_batch=32)
            found = evaluate_answers(policy, questions, judge, arguments.out / file, options, observer)
        return [result for result in found if result.item_id in asked]

    base = measured(Policy(model=MODEL), "answers.jsonl")
    told: dict[str, Any] = {"the untouched model": _rows(base, [])}
    for named in arguments.policies:
        name, _, folder = named.partition("=")
        told[name] = _rows(measured(Policy(model=MODEL, adapter=folder), f"{name}.answers.jsonl"), base)
    for width in arguments.noise:
        told[f"with noise {width:g}"] = _rows(measured(_noisy(width), f"noise-{width:g}.answers.jsonl"), base)
    result = {
        "command": "python recipes/questions/measure.py quickstart=runs/quickstart/train/policy"
        + (f" --noise {' '.join(f'{width:g}' for width in arguments.noise)}" if arguments.noise else ""),
        "model": MODEL,
        "seed": 0,
        "date": timestamp(),
        "machine": f"one core, {platform.machine()}, no GPU",
        "questions": len(questions),
        "policies": told,
    }
    write_file(HERE / "measured.json", json.dumps(result, indent=1) + "\n")


def _noisy(width: float) -> Policy:
    policy, random = Policy(model=MODEL), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in policy.model.parameters():
            if weight.dim() == 2:
                noise = torch.randn(weight.shape, generator=random, dtype=torch.float32).to(weight)
                weight += width * weight.float().std().to(weight) * noise
    return policy


def _rows(after: list[AnswerResult], before: list[AnswerResult]) -> list[dict[str, Any]]:
    """Each measurement with its change from ``before``, paired by question."""
    return [
        {
            "kind": score.kind,
            "unit": score.unit,
            "score": _numbers(score.estimate),
            "change": score.difference and _numbers(score.difference),
        }
        for score in answer_scores(after, before)
    ]


def _numbers(estimate: Any) -> dict[str, float]:
    fields = dataclasses.asdict(estimate).items()
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in fields}


if __name__ == "__main__":
    with guarded("the same command"):
        main()
