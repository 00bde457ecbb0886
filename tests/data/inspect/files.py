"""Tasks of Inspect whose model runs commands, for tests/test_bench_inspect.py."""

from inspect_ai import Task, task
from inspect_ai.agent import react
from inspect_ai.dataset import Sample
from inspect_ai.model import ChatMessageAssistant, execute_tools
from inspect_ai.scorer import Score, accuracy, includes, scorer
from inspect_ai.solver import Generate, TaskState, generate, solver, use_tools
from inspect_ai.tool import ToolCall, bash
from inspect_ai.util import sandbox


@scorer(metrics=[accuracy()])
def lies_there():
    async def score(state: TaskState, target):
        try:
            text = await sandbox().read_file("longest.txt")
        except FileNotFoundError:
            return Score(value="I", explanation="no file")
        return Score(value="C" if text.strip() == target.text else "I", answer=text[:100])

    return score


@solver
def expert():
    """Writes the log that the gold player repeats."""

    async def solve(state: TaskState, generate: Generate):
        for command in ("ls -l", "wc -c *.log | grep -v total | sort -n | tail -n 1 | awk '{print $2}' > longest.txt"):
            call = ToolCall(id="1", function="bash", arguments={"command": command})
            said = ChatMessageAssistant(content="", tool_calls=[call])
            state.messages += [said, *(await execute_tools([said], state.tools)).messages]
        return state

    return solve


@task
def longest_log(kind: str = "local"):
    samples = [
        Sample(
            "Which file here that ends in .log is the longest? Write its name to longest.txt.",
            target="b.log",
            id=number,
            files={"a.log": "x" * number, "b.log": "x" * (number + 3), "c.txt": "x" * 99},
            setup="#!/bin/bash\necho ready > state.txt",
        )
        for number in (1, 2)
    ]
    return Task(samples, solver=[use_tools(bash(timeout=20)), generate()], scorer=lies_there(), sandbox=kind)


@task
def word_in_file():
    sample = Sample("Read word.txt and submit the word.", target="heron", id="word", files={"word.txt": "heron\n"})
    return Task([sample], solver=react(tools=[bash(timeout=20)]), scorer=includes(), sandbox="local")


@task
def image():
    sample = Sample("What is in /etc/issue?", target="Debian", sandbox=("docker", "compose.yaml"))
    return Task([sample, Sample("And here?", target="here")], solver=[use_tools(bash()), generate()], scorer=includes())
