"""Finds a model's files: a folder, the packaged SmolLM2, or a Hugging Face id, which is fetched into the cache."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
from huggingface_hub.utils import HFValidationError, validate_repo_id

from pivotrl.engine import smollm2
from pivotrl.protocols import InputError

_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
"""Files to fetch: configuration, weights and tokenizer, but no code or pickles, which are never used."""
_CONFIGURATION = ["config.json"]
_SECONDS = 5.0


def locate(name: str, needs_weights: bool = True) -> Path:
    """The folder of a model.

    Args:
        name: a folder, ``smollm2-135m-instruct`` or a Hugging Face id.
        needs_weights: False: only config.json is fetched.

    Raises:
        InputError: the folder does not exist, and no model of that id is in the cache or can be fetched.
    """
    if name == smollm2.NAME:
        return smollm2.fetch()
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise InputError(f"{name} is not a model folder: it has no config.json. Give one saved by transformers")
        return path
    if path.exists():
        raise InputError(f"{name} is a file; give the folder that holds config.json, the weights and the tokenizer")
    if not _may_be_id(name):
        raise InputError(f"there is no folder {name!r}; give a model folder, a Hugging Face id, or {smollm2.NAME!r}")
    return _fetch(name, _FILES if needs_weights else _CONFIGURATION)


def address(name: str, folder: Path) -> str:
    """The name by which another program finds the model: its Hugging Face id or its folder."""
    return str(folder) if name == smollm2.NAME or Path(name).expanduser().exists() else name


def _may_be_id(name: str) -> bool:
    """Whether the name can be an id. ``models/x`` is a path if there is a folder ``models``."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    owner, slash, _ = name.partition("/")
    return not (slash and Path(owner).is_dir())


def _fetch(name: str, files: list[str]) -> Path:
    """The newest snapshot, or the cached one if the hub cannot be reached. Only one try: a run must not hang."""
    try:
        info = huggingface_hub.HfApi().model_info(name, timeout=_SECONDS)
    except Exception as error:  # from the network, the hub or HF_HUB_OFFLINE: too many kinds to name
        fault = error
    else:
        return Path(huggingface_hub.snapshot_download(name, revision=info.sha, allow_patterns=files))
    try:
        return Path(huggingface_hub.snapshot_download(name, local_files_only=True, allow_patterns=files))
    except (OSError, ValueError):
        reason = (str(fault).strip().splitlines() or [""])[0]
        raise InputError(
            f"there is no folder {name!r}, and no Hugging Face model of that id is in the cache or can be fetched "
            f"({type(fault).__name__}: {reason}). Check the name and the network; HF_HOME says where the cache is, and "
            "with HF_HUB_OFFLINE=1 only the cache is used"
        ) from fault
