"""Fills the page from the files of a run, one trajectory at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pivotrl.reading.alternatives import with_alternatives
from pivotrl.records import Label
from pivotrl.report.browser import words
from pivotrl.report.browser.about import facts_of, missing_of
from pivotrl.report.browser.comparing import Pair, pairs_of
from pivotrl.report.browser.filling import Filling
from pivotrl.report.browser.index import Index
from pivotrl.report.browser.joining import join
from pivotrl.report.browser.packing import Chunks, page
from pivotrl.report.browser.prompts import Prompts, TokenHeat
from pivotrl.report.browser.scoring import Scores
from pivotrl.report.browser.sources import sources_of
from pivotrl.report.browser.views import Views
from pivotrl.rows.prompts import Prompting
from pivotrl.runs.files import RunFiles
from pivotrl.runs.layout import selection_stage
from pivotrl.storage.record_files import write_file

FORMAT = 1


@dataclass(frozen=True)
class ViewOptions:
    """What the page shows."""

    selection: str | None = None
    """Name of the selection whose pivots are marked; default is the run's selection."""
    evaluation: tuple[str, ...] | None = None
    """Evaluations to show, by name; default is all. Of a comparison: policies, such as pivots/0.0001/40."""
    against: Path | None = None
    """Another run, whose samples at the same turns are shown beside those of this one."""
    tokens: bool = False
    """Show the log-probability of each sampled token. The page becomes several times larger."""


def write_view(
    directory: Path,
    out: Path | None = None,
    options: ViewOptions = ViewOptions(),
    prompting: Prompting | str = "prompts were not asked for",
    views: Views | None = None,
    labels: Iterable[Label] = (),
    scores: Scores | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Write the page, by default ``view.html`` in the run directory; its path.

    Args:
        prompting: what writes the prompts of this run's model; or why there is nothing that could.
        views: what draws pictures beside messages.
        labels: labels that the page begins with.
        scores: of samples by the policy before and after training; with them, log-probabilities are shown.
        progress: told of the trajectories done.

    Raises:
        InputError: the directory holds no run or no such selection, a file is damaged, or there is nothing to compare
            with.
    """
    head, chunks = view_data(directory, options, prompting, views, labels, scores, progress)
    path = out or Path(directory) / "view.html"
    write_file(path, page(head, chunks))
    return path


def view_data(
    directory: Path,
    options: ViewOptions = ViewOptions(),
    prompting: Prompting | str = "prompts were not asked for",
    views: Views | None = None,
    labels: Iterable[Label] = (),
    scores: Scores | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[dict[str, Any], list[str]]:
    """(head, packed chunks) of the page, as :func:`write_view`."""
    files = RunFiles(Path(directory))
    if options.selection is not None:
        files.finished(selection_stage(options.selection))
    own = sources_of(files, options.evaluation)
    other = join(files, options.against) if options.against else None
    if other:
        own = [dataclasses.replace(source, run=files.directory.resolve().name) for source in own]
    sources = [*own, *(other.sources if other else ())]
    chunks, views = Chunks(), views or Views()
    prompts = Prompts(prompting, chunks) if isinstance(prompting, Prompting) else None
    heat = None
    if isinstance(prompting, Prompting) and (options.tokens or scores):
        heat = TokenHeat(prompting, scores or {})
    filling = Filling(
        sources=sources,
        index=Index(len(sources)),
        chunks=chunks,
        selected={row.turn_id: row for row in files.selected(options.selection)},
        skipped={row.turn_id: row.reason for row in files.skipped()},
        num_own=len(own),
        shared=other.shared if other else frozenset(),
        prompts=prompts,
        heat=heat,
        views=views,
    )
    logs = {"train": files.logged(), "heldout": files.logged_heldout()}
    total, done = sum(map(len, logs.values())) + sum(len(source.episodes) for source in own), 0
    for split, file in logs.items():
        for trajectory in with_alternatives(list(file)):
            filling.add_log(trajectory, split)
            done += 1
            progress(done, total)
    for number, source in enumerate(own):
        for key in source.episodes:
            filling.add_episode(number, key)
            done += 1
            progress(done, total)
    notices = [
        *missing_of(files),
        *([] if prompts else [f"The page has no prompts: {prompting}."]),
        *(
            ["The page has no log-probabilities of tokens: there is no tokenizer."]
            if options.tokens and not heat
            else []
        ),
        *(
            f"{source.full_title}: the run kept the first sample of each turn alone."
            for source in sources
            if source.old
        ),
        *(prompts.notices() if prompts else ()),
        *(other.notices if other else ()),
        *views.notices,
    ]
    return assembled(
        filling,
        run=files.directory.resolve().name,
        facts=facts_of(files, options.selection),
        trajectories_sha256=files.sha256("trajectories.jsonl"),
        pairs=pairs_of(sources, filling.index, len(own)),
        notices=notices,
        labels=labels,
    )


def assembled(
    filling: Filling,
    *,
    run: str,
    facts: Sequence[tuple[str, str]],
    trajectories_sha256: str,
    pairs: Sequence[Pair],
    notices: Sequence[str],
    labels: Iterable[Label] = (),
    **more: Any,
) -> tuple[dict[str, Any], list[str]]:
    """(head, packed chunks) of a page whose turns are all filled in.

    Args:
        more: further entries of the head.
    """
    from pivotrl import __version__

    head = {
        "format": FORMAT,
        "run": run,
        "made_with": __version__,
        "facts": facts,
        "trajectories_sha256": trajectories_sha256,
        "sources": [source.as_json() for source in filling.sources],
        "pairs": pairs,
        "explain": {"reasons": words.reasons(filling.index.codes), "statuses": words.STATUSES},
        "heat": filling.heat.channels if filling.heat else [],
        "notices": notices,
        "labels": [label.model_dump(mode="json", exclude_defaults=True) for label in labels],
    }
    packed = filling.chunks.finish(filling.index.as_json())
    return head | more | {"chunks": len(packed)}, packed
