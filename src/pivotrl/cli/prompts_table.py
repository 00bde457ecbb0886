"""Printed after prompts were written: their number, what was left out, and the command that takes the samples."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pivotrl.cli.fitting_table import new_table, print_table
from pivotrl.cli.tables import out, plain
from pivotrl.records import SkippedTurn


def print_prompts(path: Path, written: int, skipped: Sequence[SkippedTurn], has_ids: bool, as_json: bool) -> None:
    reasons = dict(Counter(skip.reason for skip in skipped))
    if as_json:
        print(json.dumps({"path": str(path), "turns": written, "skipped": reasons, "token_ids": has_ids}, indent=2))
        return
    table = new_table("prompts", "")
    table.add_row("turns", f"{written:,}")
    for reason, number in reasons.items():
        table.add_row(f"left out: {plain(reason)}", f"{number:,}")
    print_table(out, table)
    told = "messages, text and token ids" if has_ids else "messages; name a tokenizer with --model for token ids"
    out.print(f"wrote {plain(str(path))}: {told}", soft_wrap=True)
