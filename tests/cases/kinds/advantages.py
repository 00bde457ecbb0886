"""`rewards` of one group, `estimator` (leave_one_out by default), `largest`: the bound on every advantage."""

from pathlib import Path
from typing import Any

from pivotrl.advantages import group_advantages


def run(case: dict[str, Any], folder: Path) -> None:
    found = group_advantages(case["rewards"], case.get("estimator", "leave_one_out"))
    assert max(map(abs, found)) <= case["largest"], found
