"""A vLLM of our own: the command that starts it, waiting for it, and its end."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import httpx

from pivotrl.engine.vllm_ranks import RANKS, room_for
from pivotrl.protocols import InputError

_START_SECONDS = 1800.0
_STOP_SECONDS = 30.0
_TIED = (
    "import ctypes, os, signal, sys\n"
    "if sys.platform == 'linux': ctypes.CDLL(None).prctl(1, signal.SIGTERM)\n"
    "os.execv(sys.argv[1], sys.argv[1:])"
)
"""Runs a command that gets SIGTERM when the process that started it ends, however it ends (PR_SET_PDEATHSIG)."""


def python_with_vllm(given: Path | None) -> str | None:
    """The interpreter that has vLLM: the one given, or this one; None if neither has.

    Raises:
        InputError: the one given is no program.
    """
    if given is not None:
        if not os.access(given, os.X_OK) or given.is_dir():
            raise InputError(f"--vllm-python {given} is no program; give the interpreter of an environment with vLLM")
        return str(given.absolute())
    return sys.executable if importlib.util.find_spec("vllm") else None


def command(
    python: str,
    model: str,
    port: int,
    adapters: Mapping[str, tuple[Path, int]],
    dtype: str,
    more: Sequence[str],
    rank: int = 0,
) -> list[str]:
    """
    Args:
        model: folder or Hugging Face id; vLLM knows it as ``base``.
        adapters: name, other than ``base`` -> (folder, rank).
        more: further arguments of vLLM.
        rank: of adapters that may be loaded later.

    Raises:
        InputError: vLLM takes no adapter of that rank.
    """
    words = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", model, "--served-model-name", "base"]
    words += ["--host", "127.0.0.1", "--port", str(port), "--generation-config", "vllm", "--dtype", dtype]
    words += ["--enable-prompt-tokens-details"]
    if rank := max((rank, *(rank for _, rank in adapters.values()))):
        allowed = room_for(rank)
        if allowed is None:
            raise InputError(f"an adapter of rank {rank} is more than vLLM takes ({RANKS[-1]}); use our own engine")
        words += ["--enable-lora", "--max-lora-rank", str(allowed)]
    if adapters:
        words.append("--lora-modules")
        words += [f"{name}={folder.absolute()}" for name, (folder, _) in adapters.items()]
    return [*words, *more]


class VllmProcess:
    """Starts vLLM on a free port of this machine, and waits until it answers. It ends with this process.

    Args:
        make: the port -> the command.
        tell: told the command.
        variables: further environment variables.

    Raises:
        InputError: it ends, or does not answer in time; the message has the last error of its log.
    """

    def __init__(
        self, make: Callable[[int], list[str]], tell: Callable[[str], None], variables: Mapping[str, str] = {}
    ) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        words = make(port)
        tell(shlex.join(words))
        self.url = f"http://127.0.0.1:{port}"
        self._scratch = tempfile.TemporaryDirectory(prefix="pivotrl-vllm-")
        self._log = Path(self._scratch.name) / "log"
        environment = {"VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", **os.environ, **variables}
        environment.pop("PYTHONPATH", None)  # it may be another interpreter
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-c", _TIED, *words],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    @property
    def fault(self) -> str | None:
        """Why it answers no more; None while it runs."""
        if self._process.poll() is None:
            return None
        return f"vLLM ended with code {self._process.returncode}{self._last_error()}; start the server again"

    @property
    def max_context(self) -> int:
        """Tokens of prompt and completion that it takes."""
        rows = httpx.get(f"{self.url}/v1/models", timeout=30, trust_env=False).json()["data"]
        return int(next(row["max_model_len"] for row in rows if row.get("max_model_len")))

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # its workers too
            self._process.wait()
        self._scratch.cleanup()

    def _wait(self) -> None:
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until:
            if fault := self.fault:
                raise InputError(fault.replace("; start the server again", "; mend that, or use our own engine"))
            try:
                if httpx.get(f"{self.url}/health", timeout=5, trust_env=False).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.5)
        raise InputError(f"vLLM did not answer within {_START_SECONDS:g} s{self._last_error()}")

    def _last_error(self) -> str:
        if not self._log.is_file():
            return ""
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if "Error" in line]
        return f" ({lines[-1].strip()[:300]})" if lines else ""
