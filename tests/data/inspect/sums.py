"""Tasks of Inspect without tools, for tests/test_bench_inspect.py."""

from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.model import get_model
from inspect_ai.scorer import Score, Target, accuracy, choice, match, model_graded_qa, scorer
from inspect_ai.solver import TaskState, generate, multiple_choice


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


@scorer(metrics=[accuracy()])
def asks_itself():
    async def score(state: TaskState, target: Target) -> Score:
        said = await get_model().generate("Is it right? " + state.output.completion)
        return Score(value="C" if said.completion else "I")

    return score


@task
def self_graded():
    return Task([Sample("What is 1 + 1?", target="2")], solver=generate(), scorer=asks_itself())


@scorer(metrics=[accuracy()])
def long_words():
    async def score(state: TaskState, target: Target) -> Score:
        return Score(value=len(state.output.completion))

    return score


@task
def lengths():
    return Task([Sample("Say a long word.", target="donkey")], solver=generate(), scorer=long_words())
