"""Options of the endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pivotrl.options import AtLeast1, Positive, check


@dataclass(frozen=True)
class EngineOptions:
    """What computes."""

    engine: Literal["auto", "own", "vllm"] = "auto"
    """What computes: our own engine, or vLLM, which this command starts. auto takes vLLM where it is installed."""
    vllm_python: Path | None = None
    """Interpreter of an environment with vLLM, if that is not this one."""
    vllm_arguments: str | None = None
    """Further arguments for vLLM, as one text after an equals sign: --vllm-arguments="-tp 2"."""

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class ServeOptions(EngineOptions):
    """Where the endpoint listens, what it lets in, and what computes."""

    host: str = "127.0.0.1"
    """Address to listen on. The default lets in this machine alone; 0.0.0.0 lets in everybody."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """Port to listen on; 0 takes a free one."""
    api_key: str | None = None
    """Key that clients must send. Without this option it is read from the environment variable PIVOTRL_API_KEY, which
    other users of the machine cannot see."""
    max_requests: AtLeast1 = 256
    """Requests that may wait or run at one time; further ones get status 429."""
    max_request_mib: Positive = 4.0
    """Largest body of a request."""
