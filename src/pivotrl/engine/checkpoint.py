"""Weights and optimizer state on disk: safetensors and JSON with hashes, committed by one rename. No pickle."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from pivotrl.protocols import InputError
from pivotrl.store import sha256_of_file, sync_directory, write_file


def save_checkpoint(path: Path, tensors: dict[str, dict[str, torch.Tensor]], state: dict[str, Any]) -> None:
    """Write ``<name>.safetensors`` per entry and ``state.json`` into a folder that appears whole or not at all.

    An older folder at ``path`` is replaced only once the new one is on disk.

    Raises:
        ValueError: a tensor is not finite; such weights are never published.
        OSError: the disk is full; the older folder stays.
    """
    for group in tensors.values():
        for name, tensor in group.items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise ValueError(f"{name} holds values that are not finite; the checkpoint was not written")
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        hashes = {}
        for name, group in tensors.items():
            file = scratch / f"{name}.safetensors"
            save_file({key: tensor.detach().cpu().contiguous() for key, tensor in group.items()}, file)
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
            hashes[file.name] = sha256_of_file(file)
        write_file(scratch / "state.json", json.dumps({"sha256": hashes, "state": state}, indent=2, sort_keys=True))
        old = path.with_name(f".{path.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if path.exists():
            path.rename(old)
        scratch.rename(path)
        sync_directory(path.parent)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def load_checkpoint(path: Path) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, Any]]:
    """(tensors by file name, state).

    Raises:
        InputError: there is no checkpoint, or a file does not fit its hash.
    """
    old = path.with_name(f".{path.name}.old")
    if not path.exists() and old.exists():
        old.rename(path)  # killed between the two renames of a save
    if not (path / "state.json").is_file():
        raise InputError(f"{path} is not a checkpoint: it has no state.json")
    content = json.loads((path / "state.json").read_text())
    tensors = {}
    for name, digest in content["sha256"].items():
        if not (path / name).is_file() or sha256_of_file(path / name) != digest:
            raise InputError(f"{path / name} is missing or damaged (hash differs); delete {path} and resume")
        tensors[name.removesuffix(".safetensors")] = load_file(path / name)
    return tensors, content["state"]
