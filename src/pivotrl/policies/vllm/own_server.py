"""A vLLM on this machine that belongs to the policy: it starts with it and ends with it."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pivotrl.engine.locating import locate
from pivotrl.protocols import InputError
from pivotrl.serving.vllm_process import VllmProcess, command, python_with_vllm

SERVED = "base"
_OPEN = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "VLLM_SERVER_DEV_MODE": "1"}
"""It takes weights while it runs; from anybody on this machine, as it listens on the loopback address."""
_logger = logging.getLogger(__name__)


def start(policy: Any, python: str | None, arguments: Sequence[str]) -> str:
    """Start it with the model of the policy, in its precision.

    Args:
        policy: the one that learns.
        python: interpreter of an environment with vLLM; None: this one.
        arguments: further ones of ``vllm serve``.

    Returns:
        its address, up to ``/v1``.

    Raises:
        InputError: vLLM is not installed, does not start, or the policy is no model of which it has the files.
    """
    facts = policy.description
    if facts.get("adapter") is not None or "model" not in facts:
        raise InputError(
            "vllm(...) starts a server with the files of a model, without an adapter merged into it; merge it into a "
            "model first, or start a server yourself and give its base_url"
        )
    if (found := python_with_vllm(None if python is None else Path(python))) is None:
        raise InputError(
            "vLLM is not installed in this environment; name the interpreter of one that has it with "
            "vllm(python='/path/to/python'), or start a server and give its base_url"
        )
    folder, rank = str(locate(str(facts["model"]))), int(policy.training_identity["lora_rank"])
    process = VllmProcess(
        lambda port: command(found, folder, port, {}, str(facts["dtype"]), arguments, rank),
        lambda line: _logger.info("starting %s", line),
        _OPEN,
    )
    weakref.finalize(policy, process.stop)
    return f"{process.url}/v1"
