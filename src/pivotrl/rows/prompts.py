"""The candidate turns of a run as prompts for a model that samples elsewhere: a server, a cluster, an API.

The file is JSON lines. The first line says what the prompts are (``prompts_sha256``) and how to sample; each further
line is one turn, as messages and tools of a chat API and, with a tokenizer, as token ids. The samples come back with
:mod:`pivotrl.rows.samples`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pivotrl.profiling import ProfileOptions
from pivotrl.protocols import InputError, NotRenderable, Turn
from pivotrl.records import SkippedTurn
from pivotrl.records.strict_json import parse_json
from pivotrl.rendering import Renderer, prompt_hash
from pivotrl.rows.rows import Row, json_text
from pivotrl.storage.folders import scratch_path
from pivotrl.storage.record_files import sha256_of_json
from pivotrl.templates.api_messages import api_messages
from pivotrl.text.tool_call_syntax import function_tool

VERSION = 1
"""Of the file format."""
_MARK = "pivotrl_prompts"


@dataclass(frozen=True)
class Prompting:
    """What writes turns as token ids for one model, and how many tokens that model can see."""

    renderer: Renderer
    max_context: int
    named: Mapping[str, str] = field(default_factory=dict)
    """The options that named it on the command line, for a manifest."""

    @property
    def sha256(self) -> str:
        """Identifies the tokenizer, the template and the stop tokens."""
        return sha256_of_json({**self.renderer.identity, "stop_ids": sorted(self.renderer.stop_ids)})

    def misfit(self, turn: Turn, max_tokens: int) -> SkippedTurn | None:
        """Why the model cannot act at the turn, as :func:`pivotrl.rollouts.misfit` says it; None if it can."""
        try:
            length = len(self.renderer.prompt(turn))
        except NotRenderable as error:
            return SkippedTurn(turn_id=turn.id, reason="not_renderable", detail=str(error))
        return (
            SkippedTurn(turn_id=turn.id, reason="context_too_long") if length + max_tokens > self.max_context else None
        )


def prompts_sha256(turns: Sequence[Turn]) -> str:
    """Identifies what the model is shown at these turns, whatever tokenizer writes it. Linear in the logs."""
    digest = hashlib.sha256(f"{_MARK} {VERSION}".encode())
    seen = {"id", "messages", "tools", "context_window", "pinned_messages"}
    trajectories = {turn.trajectory.id: turn.trajectory for turn in turns}
    for name in sorted(trajectories):
        digest.update(trajectories[name].model_dump_json(include=seen).encode())
    digest.update(json_text(sorted(turn.id for turn in turns)).encode())
    return digest.hexdigest()


def header(turns: Sequence[Turn], options: ProfileOptions, prompting: Prompting | None) -> Row:
    """The first line of the file."""
    return {
        _MARK: VERSION,
        "prompts_sha256": prompts_sha256(turns),
        "renderer_sha256": prompting.sha256 if prompting else None,
        "turns": len(turns),
        "num_samples": options.num_samples,
        "temperature": options.temperature,
        "top_p": options.top_p,
        "top_k": options.top_k,
        "max_tokens": options.max_tokens,
    }


def prompt_row(turn: Turn, options: ProfileOptions, prompting: Prompting | None) -> Row:
    """The line of one turn.

    Raises:
        NotRenderable: the chat template cannot write the turn.
    """
    row: Row = {
        "turn_id": turn.id,
        "messages": api_messages(turn.context),
        "tools": [function_tool(tool) for tool in turn.trajectory.tools],
        "temperature": options.temperature,
        "max_tokens": options.max_tokens,
    }
    if prompting is not None:
        renderer = prompting.renderer
        token_ids = renderer.prompt(turn)
        row |= {
            "text": renderer.tokenizer.decode(token_ids, clean_up_tokenization_spaces=False),
            "token_ids": list(token_ids),
            "stop_ids": sorted(renderer.stop_ids),
            "prompt_sha256": prompt_hash(token_ids),
        }
    return row


def write_prompts(
    path: Path, turns: Sequence[Turn], options: ProfileOptions, prompting: Prompting | None
) -> tuple[int, list[SkippedTurn]]:
    """Write the file, all of it or nothing: the header, then each turn at which the model can act.

    Returns:
        the number of turns written, and those left out.

    Raises:
        InputError: the path holds something else than prompts.
    """
    _require_place(path)
    skipped: list[SkippedTurn] = []
    temporary = scratch_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.writelines(f"{json_text(row)}\n" for row in _rows(turns, options, prompting, skipped))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return len(turns) - len(skipped), skipped


def _rows(
    turns: Sequence[Turn], options: ProfileOptions, prompting: Prompting | None, skipped: list[SkippedTurn]
) -> Iterator[Row]:
    yield header(turns, options, prompting)
    for turn in turns:
        if prompting is not None and (skip := prompting.misfit(turn, options.max_tokens)) is not None:
            skipped.append(skip)
        else:
            yield prompt_row(turn, options, prompting)


def _require_place(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path} is a folder; give a file, such as {path / 'prompts.jsonl'}")
    if not path.exists():
        return
    with path.open("rb") as file:
        line = file.readline(1 << 16)
    try:
        first = parse_json(line)
    except ValueError:
        first = None
    if not isinstance(first, dict) or _MARK not in first:
        raise InputError(f"{path} exists and does not hold prompts; give another file")
