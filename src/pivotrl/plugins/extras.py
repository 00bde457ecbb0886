"""How to install the extras of this package."""

from __future__ import annotations

from pathlib import Path

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
    "jinja2": "report",
    "matplotlib": "report",
    "pyarrow": "formats",
    "zstandard": "formats",
    "math_verify": "answers",
    "ray": "ray",
    "httpx": "judge",
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
