"""Strange samples, `texts` with Hermes tool calls, are profiled at a turn (tests/case_turns.py): they come back from
disk with their `outcomes`. `stored`: how the last ones are spelled there, where no file could hold their text."""

from pathlib import Path
from typing import Any

from case_turns import turn_of
from pivotrl.profiling import ProfileOptions, profile
from pivotrl.records import SampleGroup
from pivotrl.samplers.scripted import Sampler
from pivotrl.storage.record_files import read_records
from pivotrl.verifiers.tool_call import verify


def run(case: dict[str, Any], folder: Path) -> None:
    turn = turn_of(case)
    texts, path = case["texts"], folder / "profiles.jsonl"
    options = ProfileOptions(num_samples=len(texts))
    profile([turn], Sampler(script={turn.id: texts}), verify, path, options)
    (group,) = read_records(path, SampleGroup)
    stored = [*texts[: len(texts) - len(case.get("stored", ()))], *case.get("stored", ())]
    assert [completion.text for completion in group.completions_G] == stored
    assert [verdict.outcome for verdict in group.verdicts_G] == case["outcomes"]
