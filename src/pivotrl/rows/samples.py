"""Samples made elsewhere, at the turns of :mod:`pivotrl.rows.prompts`: JSON lines, in one file or several.

The first line of each file names who made them, the others are turns:

    {"model": "gpt-5", "prompts_sha256": "...", "temperature": 1.0, "max_tokens": 256}
    {"turn_id": "log1#2", "samples": [{"text": "..."}, {"token_ids": [1, 2], "logprobs": [-0.1, -2.0]}]}
"""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError, model_validator

from pivotrl.parsing import action_text, parse_completion, style_names
from pivotrl.protocols import InputError, Turn
from pivotrl.reading.chat_messages import chat_message
from pivotrl.records import Action, Completion, Record, SampleGroup
from pivotrl.records.strict_json import parse_json
from pivotrl.rendering import prompt_hash
from pivotrl.rollouts import storable
from pivotrl.rows.prompts import Prompting, prompts_sha256
from pivotrl.storage.record_files import sha256_of_json, validation_message

R = TypeVar("R", bound=Record)
_NUM_NAMED = 3
_ENDS = {"stop": "stop", "tool_calls": "stop", "eos": "stop", "length": "length", "max_tokens": "length"}
"""What servers call the end of a sample."""


class SamplesHeader(Record):
    """Who made the samples, of which prompts, and how."""

    model: str = Field(min_length=1)
    prompts_sha256: str
    temperature: float | None = Field(ge=0, allow_inf_nan=False)
    """None if the maker does not say."""
    max_tokens: int = Field(ge=1)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=1)
    renderer_sha256: str | None = None
    """Of the prompts, if the model was given their text or token ids instead of messages."""
    actions: str = "auto"
    """How the model writes its actions, a style of :mod:`pivotrl.parsing`."""
    notes: dict[str, Any] = Field(default_factory=dict)
    """Anything else worth keeping, such as the server and its version."""


class GivenSample(Record):
    """One sample: its text, its token ids, or the message that a chat API returned."""

    text: str | None = None
    token_ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    message: dict[str, Any] | None = None
    finish_reason: str | None = None

    @model_validator(mode="after")
    def _is_one_sample(self) -> GivenSample:
        if sum(value is not None for value in (self.text, self.token_ids, self.message)) != 1:
            raise ValueError("a sample has one of text, token_ids and message")
        if self.token_ids is not None and (not self.token_ids or min(self.token_ids) < 0):
            raise ValueError("token_ids must be one or more numbers of at least 0")
        if self.finish_reason is not None and self.finish_reason not in _ENDS:
            raise ValueError(f"finish_reason must be one of {', '.join(_ENDS)}, not {self.finish_reason!r}")
        if self.logprobs is not None:
            if self.token_ids is None or len(self.logprobs) != len(self.token_ids):
                raise ValueError("logprobs must have one number for each of token_ids; leave them out if unknown")
            if not all(math.isfinite(value) and value <= 1e-6 for value in self.logprobs):
                raise ValueError("logprobs must be finite and at most 0; leave them out if unknown")
        return self


class GivenTurn(Record):
    """The samples of one turn."""

    turn_id: str
    samples: tuple[GivenSample, ...] = Field(min_length=1)


@dataclass(frozen=True)
class Samples:
    """The samples of all files, as completions without verdicts."""

    header: SamplesHeader
    groups: Mapping[str, SampleGroup]
    """By turn id."""
    sha256: str
    """Of the content: it does not depend on how the rows are spread over files."""

    @property
    def uses_tokenizer(self) -> bool:
        """Whether the tokenizer had a part in reading them."""
        has_ids = any(completion.token_ids_T for group in self.groups.values() for completion in group.completions_G)
        return self.header.renderer_sha256 is not None or has_ids

    @property
    def num_samples(self) -> int:
        """The most that any turn has."""
        return max((len(group.completions_G) for group in self.groups.values()), default=0)

    @property
    def num_short(self) -> int:
        """Turns that have fewer."""
        return sum(len(group.completions_G) < self.num_samples for group in self.groups.values())


def read_samples(paths: Sequence[Path], turns: Sequence[Turn], prompting: Prompting | None = None) -> Samples:
    """Read and merge the files.

    Args:
        turns: the candidate turns of the run.
        prompting: the tokenizer of the model. It is used where the header has ``renderer_sha256``, and for token ids.
            Any other text is read as ``actions`` says.

    Raises:
        InputError: a row is malformed, its turn is unknown or has another row; the headers differ, or belong to other
            prompts. The message names the place.
    """
    by_id = {turn.id: turn for turn in turns}
    header: tuple[Path, SamplesHeader] | None = None
    places: dict[str, str] = {}
    given: dict[str, GivenTurn] = {}
    for path in paths:
        rows = _lines(path)
        own = _header(path, rows)
        if header is None:
            _require_prompts(path, own, turns, prompting)
            header = path, own
        elif own != header[1]:
            fields = [name for name in type(own).model_fields if getattr(own, name) != getattr(header[1], name)]
            raise InputError(
                f"{path} and {header[0]} differ in {', '.join(fields)}, so they are not parts of one set of samples"
            )
        for place, value in rows:
            row = _record(place, value, GivenTurn)
            if row.turn_id not in by_id:
                raise InputError(f"{place}: no candidate turn {row.turn_id!r}{_near(row.turn_id, by_id)}")
            if row.turn_id in places:
                raise InputError(
                    f"{place}: the turn {row.turn_id!r} already has samples at {places[row.turn_id]}; keep one of them"
                )
            places[row.turn_id], given[row.turn_id] = place, row
    if header is None:
        raise InputError("no files of samples were given")
    groups = {
        turn.id: _group(places[turn.id], given[turn.id], turn, header[1], prompting)
        for turn in turns
        if turn.id in given
    }
    content = [header[1].model_dump(), {name: given[name].model_dump() for name in sorted(given)}]
    return Samples(header[1], groups, sha256_of_json(content))


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    """(place, value) of each line that is not blank.

    Raises:
        InputError: the file cannot be read, or a line is not JSON.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield f"{path}:{number}", parse_json(line)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; give a file of samples") from error
    except ValueError as error:
        raise InputError(f"{path}:{number} is not JSON: {error}. It may be cut off; write the row again") from error


def _header(path: Path, rows: Iterator[tuple[str, Any]]) -> SamplesHeader:
    place, value = next(rows, ("", None))
    if not isinstance(value, dict) or "turn_id" in value or "model" not in value:
        raise InputError(
            f"{path} must begin with a row that names the model: "
            '{"model": ..., "prompts_sha256": ..., "temperature": ..., "max_tokens": ...}'
        )
    header = _record(place, value, SamplesHeader)
    if header.actions != "auto" and header.actions not in style_names():
        raise InputError(f"{place}: no style of actions {header.actions!r}; there are auto, {', '.join(style_names())}")
    return header


def _require_prompts(path: Path, header: SamplesHeader, turns: Sequence[Turn], prompting: Prompting | None) -> None:
    own = prompts_sha256(turns)
    if header.prompts_sha256 != own:
        raise InputError(
            f"{path} was made from other prompts: its prompts_sha256 is {header.prompts_sha256!r}, this run's is "
            f"{own!r}. Give the options that `pivotrl prompts` was given (--domain, --max-turns, --max-per-task, "
            "--draw-seed), or sample the prompts of this run"
        )
    if header.renderer_sha256 is None:
        return
    if prompting is None:
        raise InputError(
            f"{path} was made from prompts that a tokenizer wrote (renderer_sha256); name that tokenizer's model with "
            "--model, or leave renderer_sha256 out if the sampled model was given messages"
        )
    if header.renderer_sha256 != prompting.sha256:
        raise InputError(
            f"{path} was made from prompts that another tokenizer or template wrote: its renderer_sha256 is "
            f"{header.renderer_sha256!r}, that of --model is {prompting.sha256!r}"
        )


def _record(place: str, value: Any, model: type[R]) -> R:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise InputError(f"{place}: {validation_message(error)}") from None


def _near(turn_id: str, known: Mapping[str, Turn]) -> str:
    same = turn_id.rpartition("#")[0]
    beside = [name for name in known if name.rpartition("#")[0] == same]
    near = difflib.get_close_matches(turn_id, beside or list(itertools.islice(known, 10_000)), n=1, cutoff=0.0)
    return f"; did you mean {near[0]!r}?" if near else ""


def _group(place: str, row: GivenTurn, turn: Turn, header: SamplesHeader, prompting: Prompting | None) -> SampleGroup:
    completions = []
    for number, sample in enumerate(row.samples):
        try:
            completions.append(storable(_completion(sample, turn, header, prompting)))
        except ValueError as error:
            raise InputError(f"{place}: samples.{number} at {turn.id}: {error}") from None
    is_ours = prompting is not None and header.renderer_sha256 is not None
    prompt = prompting.renderer.prompt(turn) if prompting and is_ours and not prompting.misfit(turn, 0) else ()
    return SampleGroup(
        turn_id=turn.id,
        completions_G=tuple(completions),
        num_prompt_tokens=len(prompt),
        prompt_sha256=prompt_hash(prompt) if prompt else "",
    )


def _completion(sample: GivenSample, turn: Turn, header: SamplesHeader, prompting: Prompting | None) -> Completion:
    """Token ids and log-probabilities that were not given stay empty."""
    is_whole = _ENDS[sample.finish_reason or "stop"] == "stop"
    if sample.message is not None:
        said = chat_message({"role": "assistant", **sample.message}, [])
        action, error = Action(content=said.content, tool_calls=said.tool_calls), None
        text = action_text(action)
        if not said.tool_calls:  # a server without a tool parser leaves calls in the text
            action, error = _parsed(text, False, turn, header, prompting)
    else:
        text, is_whole = _text(sample, is_whole, prompting)
        action, error = _parsed(text, sample.token_ids is not None, turn, header, prompting)
    if not is_whole:
        action, error = Action(), "truncated"
    return Completion(
        action=action,
        text=text,
        token_ids_T=sample.token_ids or (),
        logprobs_T=sample.logprobs or (),
        finish_reason="stop" if is_whole else "length",
        parse_error=error,
    )


def _parsed(
    text: str, has_ids: bool, turn: Turn, header: SamplesHeader, prompting: Prompting | None
) -> tuple[Action, str | None]:
    """(the action that a text means, what is wrong with it or None)"""
    has_template = has_ids or header.renderer_sha256 is not None
    if prompting is not None and has_template and header.actions == "auto":
        return prompting.renderer.parse(text, turn)
    style = "hermes" if header.actions == "auto" else header.actions
    return parse_completion(text, style, tools=turn.trajectory.tools)


def _text(sample: GivenSample, is_whole: bool, prompting: Prompting | None) -> tuple[str, bool]:
    """(the sample's text, whether it ended by itself). Token ids that do not end in a stop token were cut off, unless
    ``finish_reason`` says otherwise: servers may leave the stop token out."""
    if sample.token_ids is None:
        return sample.text or "", is_whole
    if prompting is None:
        raise ValueError("token_ids need the model's tokenizer; name it with --model, or give text")
    renderer = prompting.renderer
    if max(sample.token_ids) >= len(renderer.tokenizer):
        raise ValueError(f"the token {max(sample.token_ids)} is not in the vocabulary of --model")
    if sample.finish_reason is None:
        is_whole = sample.token_ids[-1] in renderer.stop_ids
    return renderer.decode(sample.token_ids), is_whole
