"""An exporter: one JSON line of chat messages a turn, as fine-tuning services take them."""

from __future__ import annotations

from pathlib import Path

from pivotrl.records import SkippedTurn
from pivotrl.rows.readme import readme
from pivotrl.rows.rows import Pivots, ProfiledTurn, Row, convert, text_completion, text_prompt, write_json_lines

START = "Upload `train.jsonl` to the service that trains on it."


def export(pivots: Pivots, folder: Path, *, system: str = "") -> list[SkippedTurn]:
    """
    Args:
        system: a system message before every conversation.
    """

    def row(profiled: ProfiledTurn) -> Row:
        messages = [*text_prompt(profiled.turn), *text_completion(profiled.turn)]
        return {"messages": [{"role": "system", "content": system}, *messages] if system else messages}

    rows, skipped = convert(pivots, row)
    for split, made in rows.items():
        write_json_lines(folder / f"{split}.jsonl", made)
    (folder / "README.md").write_text(readme("chat fine-tuning", pivots, rows, skipped, START), "utf-8")
    return skipped
