"""Packages needed only for some files."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from pivotrl.plugins.extras import install_hint
from pivotrl.protocols import InputError


def package(name: str, path: Path) -> Any:
    """The package needed to read the file.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise InputError(f"{path} needs {name}: {install_hint('formats')}") from error
