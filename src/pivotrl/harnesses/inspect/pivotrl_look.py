"""What a task of Inspect AI is made of, as JSON: ``pivotrl_look.py '{"task": ..., "arguments": {...}}' result.json``.

Run by the interpreter of the harness. ``error`` says why the task cannot be used.
"""

import hashlib
import importlib.metadata
import json
import sys
from pathlib import Path

from inspect_ai._util.registry import registry_info, registry_unqualified_name
from inspect_ai.scorer import Target
from pivotrl_tasks import CannotLoad, load, samples_of, sandbox_of


def _seen(spec, arguments):
    task = load(spec, arguments)
    samples = samples_of(task)
    versions = {name: importlib.metadata.version(name) for name in _packages(spec)}
    return {
        "name": task.name,
        "samples": {name: _sample(task, sample) for name, sample in samples.items()},
        "scorers": [_scorer(one) for one in task.scorer or ()],
        "versions": versions,
        "sha256": _digest(samples),
    }


def _sample(task, sample):
    return {
        "targets": list(Target(sample.target)),
        "choices": len(sample.choices or ()),
        "sandbox": sandbox_of(task, sample),
    }


def _scorer(scorer):
    """Its name in the log, and the parts of its scores, where they are said to have several."""
    info = registry_info(scorer)
    metrics = info.metadata.get("metrics")
    told = metrics if isinstance(metrics, list | tuple) else [metrics]
    parts = [part for one in told if isinstance(one, dict) for part in one if "*" not in part]
    return {"name": registry_unqualified_name(info), "parts": parts}


def _packages(spec):
    """The distribution that a task ``package/name`` comes from."""
    package = spec.partition("/")[0]
    return importlib.metadata.packages_distributions().get(package, ())


def _digest(samples):
    rows = [
        [name, _text(sample.input), _text(sample.target), _text(sample.choices), _text(sample.files), sample.setup]
        for name, sample in sorted(samples.items())
    ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _text(value):
    if isinstance(value, list):
        return [_text(one) for one in value]
    return [str(value.role), value.text] if hasattr(value, "role") else value


def main(asked, place):
    try:
        seen = _seen(asked["task"], asked["arguments"])
    except CannotLoad as error:
        seen = {"error": str(error)}
    except Exception as error:
        words = " ".join(f"{type(error).__name__}: {error}".split())
        seen = {"error": f"{asked['task']} cannot be loaded ({words[:400]})"}
    Path(place).write_text(json.dumps(seen))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2])
