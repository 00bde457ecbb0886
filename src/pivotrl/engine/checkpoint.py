"""Stores weights and optimizer state as safetensors and JSON with hashes, in a folder written atomically. No pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from pivotrl.protocols import InputError
from pivotrl.storage.folders import atomic_folder
from pivotrl.storage.record_files import sha256_of_file, write_file


def save_checkpoint(path: Path, tensors: dict[str, dict[str, torch.Tensor]], state: dict[str, Any]) -> None:
    """Write ``<name>.safetensors`` per entry and ``state.json`` into a folder that appears whole or not at all.

    Raises:
        ValueError: a tensor is not finite; such weights are never written.
        OSError: the disk is full; the old folder remains.
    """
    for group in tensors.values():
        for name, tensor in group.items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise ValueError(f"{name} holds values that are not finite; the checkpoint was not written")
    with atomic_folder(path) as folder:
        hashes = {}
        for name, group in tensors.items():
            file = folder / f"{name}.safetensors"
            try:
                save_file({key: tensor.detach().cpu().contiguous() for key, tensor in group.items()}, file)
            except SafetensorError as error:  # the package's error for a full disk
                raise OSError(None, str(error), str(path)) from error
            hashes[file.name] = sha256_of_file(file)
        write_file(folder / "state.json", json.dumps({"sha256": hashes, "state": state}, indent=2, sort_keys=True))


def load_checkpoint(path: Path) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, Any]]:
    """(tensors by file name, state).

    Raises:
        InputError: the checkpoint is missing, or a file does not match its hash.
    """
    try:
        content = json.loads((path / "state.json").read_bytes())
        hashes, state = dict(content["sha256"]), dict(content["state"])
    except OSError as error:
        raise InputError(f"{path} is not a complete checkpoint: it has no state.json; delete it and resume") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(f"{path / 'state.json'} is damaged ({error!r}); delete {path} and resume") from error
    tensors = {}
    for name, digest in hashes.items():
        if not (path / name).is_file() or sha256_of_file(path / name) != digest:
            raise InputError(f"{path / name} is missing or damaged (hash differs); delete {path} and resume")
        tensors[name.removesuffix(".safetensors")] = load_file(path / name)
    return tensors, state
