"""How to install the extras of this package."""

from __future__ import annotations

from pathlib import Path


def install_hint(extra: str) -> str:
    """The command that installs an extra, in the clone if this package runs from one."""
    clone = Path(__file__).parents[3]
    if (clone / "pyproject.toml").is_file():
        return f'pip install -e ".[{extra}]" in {clone}'
    return f'pip install "pivotrl[{extra}]"'
