"""Loads what is served: renderer and engine of each model."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pivotrl import plugins
from pivotrl.protocols import InputError
from pivotrl.rendering import Renderer
from pivotrl.serving.choosing import Choice
from pivotrl.serving.local import LocalBackend
from pivotrl.serving.options import EngineOptions
from pivotrl.serving.served import Served
from pivotrl.serving.whole_answers import WholeAnswers
from pivotrl.storage.record_files import sha256_of_file, sha256_of_json


def load(choices: Sequence[Choice], options: EngineOptions, tell: Callable[[str], None]) -> list[Served]:
    """
    Args:
        tell: told what is being done.

    Raises:
        InputError: a model cannot be loaded, or the engine that was asked for is not installed.
    """
    from pivotrl.serving.vllm_process import python_with_vllm

    python = python_with_vllm(options.vllm_python) if options.engine != "own" else None
    if python is not None:
        return _with_vllm(choices, options, python, tell)
    if options.engine == "vllm":
        raise InputError("vLLM is not installed here; give the interpreter that has it with --vllm-python")
    return [_with_own_engine(choice, tell) for choice in choices]


def _with_own_engine(choice: Choice, tell: Callable[[str], None]) -> Served:
    tell(f"loading {choice.root}")
    given: dict[str, Any] = {**choice.options, "model": choice.model, "trainable": False}
    if choice.adapter is not None:
        given["adapter"] = str(choice.adapter)
    policy = plugins.load("policies", "hf", **given)
    live = policy.generator.live()
    if live is None:
        tell(f"{choice.name}: our attention cannot split this model, so requests are answered one after the other")
    backend = LocalBackend(live or WholeAnswers(policy.generator), tells_tops=live is not None)
    sha256 = sha256_of_json(policy.identity)
    return Served(choice.name, policy.renderer, policy.max_context, sha256, backend, choice.root)


def _with_vllm(
    choices: Sequence[Choice], options: EngineOptions, python: str, tell: Callable[[str], None]
) -> list[Served]:
    from pivotrl.engine.locating import locate
    from pivotrl.serving.vllm_backend import VllmBackend
    from pivotrl.serving.vllm_process import VllmProcess, command

    if len({choice.model for choice in choices}) > 1:
        raise InputError("one vLLM serves adapters of one model, not two models; serve them one by one")
    folder = locate(choices[0].model)
    named = [f"adapter-{number}" if choice.adapter else "base" for number, choice in enumerate(choices)]
    adapters = {
        name: (choice.adapter, _rank(choice.adapter))
        for name, choice in zip(named, choices, strict=True)
        if choice.adapter
    }
    dtype = choices[0].options.get("dtype", "auto")
    more = shlex.split(options.vllm_arguments or "")
    renderers = [_renderer(choice) for choice in choices]
    process = VllmProcess(
        lambda port: command(python, str(folder), port, adapters, dtype, more), lambda line: tell(f"starting {line}")
    )
    try:
        return [
            Served(
                choice.name,
                renderer,
                min(context, process.max_context),
                _identity(folder, choice, renderer),
                VllmBackend(process, name),
                choice.root,
            )
            for name, choice, (renderer, context) in zip(named, choices, renderers, strict=True)
        ]
    except BaseException:
        process.stop()
        raise


def _rank(adapter: Path) -> int:
    try:
        return int(json.loads((adapter / "adapter_config.json").read_bytes())["r"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"{adapter} is no LoRA adapter ({error}); give the folder that peft saved") from error


def _renderer(choice: Choice) -> tuple[Renderer, int]:
    """(renderer, tokens of context)"""
    from pivotrl.engine.prompting import load_prompting

    tokenizer, ends, context = load_prompting(choice.model)
    names = ("style", "reasoning", "actions", "variables")
    given = {name: choice.options[name] for name in names if name in choice.options}
    return Renderer(tokenizer, stop_ids=ends, **given), context


def _identity(folder: Path, choice: Choice, renderer: Renderer) -> str:
    folders = [folder, *([choice.adapter] if choice.adapter else [])]
    files = [path for one in folders for path in sorted(one.glob("*.safetensors"))]
    hashes = {os.fspath(path.name): sha256_of_file(path) for path in files}
    return sha256_of_json({"engine": "vllm", **hashes, **renderer.identity})
