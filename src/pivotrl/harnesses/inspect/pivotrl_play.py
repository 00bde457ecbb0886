"""Plays samples of a task of Inspect AI one after the other: ``pivotrl_play.py '{"task": ..., "samples": [...]}'``.

Run by the interpreter of the harness. Each sample is an evaluation of its own, with a log in the folder ``N``. Those
that are ``sandboxed`` run their commands in pivotrl's sandbox.
"""

import json
import sys

from inspect_ai import eval as evaluate
from inspect_ai.dataset import MemoryDataset
from inspect_ai.model import get_model
from inspect_ai.util import SandboxEnvironmentSpec
from pivotrl_tasks import load, samples_of


def main(asked):
    for number, (name, url) in enumerate(zip(asked["samples"], asked["urls"], strict=True)):
        task = load(asked["task"], asked["arguments"])  # again: the state of a sample may stay in it
        sample = samples_of(task)[name]
        sample.id = name if sample.id is None else sample.id
        if asked["sandboxed"][number]:
            _into_our_sandbox(task, sample)
        task.dataset = MemoryDataset([sample], name=task.dataset.name)
        logs = evaluate(
            task,
            model=get_model(f"openai-api/pivotrl/{asked['model']}", base_url=url, memoize=False, strict_tools=False),
            model_roles={
                role: get_model(f"openai-api/pivotrl-role/{one['model']}", base_url=one["url"], memoize=False)
                for role, one in asked["roles"].items()
            },
            epochs=1,
            log_dir=str(number),
            log_format="eval",
            log_realtime=False,
            display="plain",
            fail_on_error=True,
            retry_on_error=0,
            max_samples=1,
            max_retries=2,
            ctl_server=False,
            acp_server=False,
            **asked["options"],
        )
        for played in logs[0].samples or ():
            if played.error:  # in one line, which pivotrl repeats
                print("Error:", " ".join(played.error.message.split())[-250:], flush=True)


def _into_our_sandbox(task, sample):
    import pivotrl_sandbox

    for path in sample.files or ():
        pivotrl_sandbox.need(path)
    task.sandbox, sample.sandbox = SandboxEnvironmentSpec(pivotrl_sandbox.NAME), None


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
