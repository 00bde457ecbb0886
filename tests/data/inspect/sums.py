"""Tasks of Inspect without tools, for tests/test_bench_inspect.py."""

from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import choice, match, model_graded_qa
from inspect_ai.solver import generate, multiple_choice


@task
def sums(count: int = 6):
    question = "What is {0} + {0}? Answer with the number alone."
    samples = [Sample(question.format(n), target=str(n + n), id=f"sum/{n}") for n in range(1, count + 1)]
    return Task(samples, solver=generate(), scorer=match())


@task
def letters():
    samples = [Sample(f"Which comes after {a}?", choices=["A", chr(ord(a) + 1), "Z"], target="B") for a in "KLM"]
    return Task(samples, solver=multiple_choice(), scorer=choice())


@task
def graded():
    return Task([Sample("What is 1 + 1?", target="2")], solver=generate(), scorer=model_graded_qa())
