"""How a vLLM server is started for the policy ``vllm`` of a command."""

from __future__ import annotations

from typing import Any

from pivotrl import plugins
from pivotrl.cli.choices import PolicyChoice
from pivotrl.cli.cluster.options import RayCluster
from pivotrl.engine.vllm_ranks import room_for
from pivotrl.protocols import InputError

SERVED = "m"
"""What a server calls the model, if the policy gives no name."""
_USUAL_RANK = 16
"""Of the policy ``hf``."""


def require_servable(policy: PolicyChoice, sampler: str | None) -> None:
    """
    Raises:
        InputError: the command's policy does not sample on servers that are started for it.
    """
    name, options = plugins.parse_spec(policy.policy)
    if sampler is not None or name != "vllm":
        acting = f"the sampler {sampler}" if sampler is not None else f"the policy {policy.policy}"
        raise InputError(f"servers are for a policy that samples on them, and {acting} does not: --policy vllm")
    if "base_url" in options:
        raise InputError(
            f"base_url={options['base_url']!r} names servers that run already, and --cluster would start others; leave "
            "base_url out, or servers=0"
        )
    if not isinstance(options.get("policy", "hf"), str):
        raise InputError(f"the option policy of {policy.policy} is a policy as text, such as 'hf(lora_rank=16)'")


def server_words(cluster: RayCluster, policy: PolicyChoice, address: str, port: int) -> list[str]:
    """The command of a server that does what the policy needs (docs/vllm.md)."""
    _, options = plugins.parse_spec(policy.policy)
    inner = _inner(options)
    words = [*cluster.serve, _model(policy, options, inner), "--served-model-name", str(options.get("served", SERVED))]
    words += ["--host", address, "--port", str(port), "--generation-config", "vllm"]
    if inner.get("dtype", "auto") != "auto":
        words += ["--dtype", str(inner["dtype"])]
    if rank := _rank(inner):
        words += ["--enable-lora", "--max-lora-rank", str(room_for(rank) or rank)]
    return [*words, *cluster.serve_options]


def server_environment(policy: PolicyChoice) -> dict[str, str | None]:
    """What opens the calls by which weights arrive. A server has an environment of its own, so not our modules."""
    rank = _rank(_inner(plugins.parse_spec(policy.policy)[1]))
    opened = "VLLM_ALLOW_RUNTIME_LORA_UPDATING" if rank else "VLLM_SERVER_DEV_MODE"
    return {opened: "1", "VLLM_NO_USAGE_STATS": "1", "PYTHONPATH": None, "PYTHONUNBUFFERED": "1"}


def _inner(options: dict[str, Any]) -> dict[str, Any]:
    """The options of the policy that learns."""
    return plugins.parse_spec(options.get("policy", "hf"))[1]


def _rank(inner: dict[str, Any]) -> int:
    return int(inner.get("lora_rank", _USUAL_RANK))


def _model(policy: PolicyChoice, options: dict[str, Any], inner: dict[str, Any]) -> str:
    from pivotrl.engine import smollm2

    name = str(policy.model or options.get("model") or inner.get("model") or smollm2.NAME)
    return str(smollm2.fetch()) if name == smollm2.NAME else name
