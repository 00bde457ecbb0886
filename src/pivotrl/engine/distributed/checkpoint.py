"""Checkpoints in shards: every process writes its own, and any number of processes reads them.

The format is that of ``torch.distributed.checkpoint`` for safetensors, so nothing is pickled. ``state.json`` holds the
hash of every file and what belongs to no shard. The leader makes the folder appear whole.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from pivotrl.protocols import InputError
from pivotrl.storage.record_files import sha256_of_file, write_file

_KIND = "shards"


def write_shards(folder: Path, tensors: Mapping[str, Tensor], group: Any) -> None:
    """All processes together: write the shards into a folder that exists.

    Raises:
        OSError: the disk is full or not writable.
    """
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    try:
        save(dict(tensors), storage_writer=writer, process_group=group)
    except CheckpointException as error:
        raise _reason(error, folder) from error


def write_state(folder: Path, state: Mapping[str, Any]) -> None:
    """The leader alone, when all shards are written."""
    hashes = {file.name: sha256_of_file(file) for file in sorted(folder.glob("*.safetensors"))}
    content = {"kind": _KIND, "sha256": hashes, "state": state}
    write_file(folder / "state.json", json.dumps(content, indent=2, sort_keys=True))


def is_in_shards(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / "state.json").read_bytes()).get("kind") == _KIND)
    except (OSError, ValueError, AttributeError):
        return False  # whoever reads it as the other kind says what is wrong


def read_state(folder: Path) -> dict[str, Any]:
    """
    Raises:
        InputError: ``state.json`` is damaged, or a file does not match its hash.
    """
    try:
        content = json.loads((folder / "state.json").read_bytes())
        hashes, state = dict(content["sha256"]), dict(content["state"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / 'state.json'} is damaged ({error!r}); delete {folder} and resume") from error
    for name, digest in hashes.items():
        if not (folder / name).is_file() or sha256_of_file(folder / name) != digest:
            raise InputError(f"{folder / name} is missing or damaged (hash differs); delete {folder} and resume")
    return state


def read_shards(folder: Path, tensors: Mapping[str, Tensor], group: Any = None) -> None:
    """Fill whole tensors or shards in place; with a group, all processes together.

    Raises:
        InputError: the checkpoint holds other tensors.
    """
    reader = HuggingFaceStorageReader(str(folder))
    known = reader.read_metadata().state_dict_metadata
    shapes = {name: getattr(each, "size", None) for name, each in known.items()}
    if shapes != {name: tensor.shape for name, tensor in tensors.items()}:
        raise InputError(f"{folder} holds other parameters than this policy trains; use the settings it was made with")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is one process
        try:
            load(dict(tensors), storage_reader=reader, process_group=group, no_dist=group is None)
        except CheckpointException as error:
            raise _reason(error, folder) from error


def _reason(error: CheckpointException, folder: Path) -> Exception:
    """The error of the disk that any process met; if there was none, a process is gone."""
    for failure in error.failures.values():
        found = failure[0] if isinstance(failure, tuple) else failure
        if isinstance(found, OSError):
            return found
        if "SafetensorError" in type(found).__name__:
            return OSError(None, str(found), str(folder))
    return dist.DistError(str(error))
