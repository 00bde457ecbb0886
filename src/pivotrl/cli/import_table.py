"""The table shown after an import: what was kept, left out, lost and refused, and what to do next."""

from __future__ import annotations

from pathlib import Path

from pivotrl.cli.fitting_table import new_table, print_table
from pivotrl.cli.next_step import print_next_step
from pivotrl.cli.tables import out, plain
from pivotrl.reading import audit
from pivotrl.runs.files import RunFiles
from pivotrl.runs.manifest import read_manifest

_NUM_REFUSED = 5


def print_import(directory: Path, as_json: bool) -> bool:
    """Print what an import kept, left out, lost and refused. Returns whether anything was refused."""
    manifest = read_manifest(directory / "read.manifest.json")
    counts = manifest.counts
    refused = bool(counts["refused"])
    if as_json:
        print(manifest.model_dump_json(indent=2))
        return refused
    kept = new_table("imported", "")
    kept.add_row("trajectories read", f"{counts['read']:,}")
    kept.add_row("  kept to train on", f"{counts['train_trajectories']:,} of {counts['train_tasks']:,} tasks")
    kept.add_row("  kept to evaluate on", f"{counts['heldout_trajectories']:,}")
    for reason, count in counts["dropped"].items():
        kept.add_row(f"  left out: {plain(audit.DROPS[reason])}", f"{count:,}")
    if near := counts["duplicates"].get("near"):
        kept.add_row("  kept, but near copies", f"{near:,}")
    kept.add_row("assistant turns", f"{counts['turns']:,}")
    kept.add_row("  candidates", f"{counts['candidates']:,}")
    for reason, count in counts["excluded"].items():
        kept.add_row(f"  {plain(audit.EXCLUSIONS.get(reason, reason))}", f"{count:,}")
    kept.add_row("tokens, about (4 characters each)", f"{counts['characters'] // 4:,}")
    kept.add_row("tools", f"{counts['tools']:,}")
    for title, key in (("format", "formats"), ("domain, guessed", "domains")):
        found = ", ".join(f"{name} {count:,}" for name, count in counts[key].items() if name)
        kept.add_row(title, plain(found) or "as named")
    print_table(out, kept)
    if counts["losses"]:
        lost = new_table("what the logs lack", "trajectories")
        for code, count in counts["losses"].items():
            lost.add_row(plain(audit.LOSSES.get(code, code)), f"{count:,}")
        print_table(out, lost)
    _print_secrets(counts["secrets"], bool(manifest.options["redact"]))
    if unknown := counts["losses"].get("reward_unknown"):
        out.print(
            f"[bold yellow]The logs do not say whether {unknown:,} trajectories succeeded[/]; all are kept. "
            "PivotRL expects successful ones: remove failures before the import."
        )
    if refused:
        _print_refused(directory, counts["refused"])
    print_next_step(directory)
    return refused


def _print_secrets(found: dict[str, int], redacted: bool) -> None:
    if found:
        listed = ", ".join(f"{count:,} {plain(kind)}" for kind, count in found.items())
        advice = "replaced" if redacted else "still there; --redact replaces them before anything is written"
        out.print(f"[bold yellow]Secrets and personal data[/] ({advice}): {listed}")


def _print_refused(directory: Path, total: int) -> None:
    refused = RunFiles(directory).refused()
    path, shown = refused.path, list(refused)[:_NUM_REFUSED]
    out.print(f"[bold red]{total:,} records could not be read[/] and were left out; {plain(str(path))} lists them all:")
    for refusal in shown:
        out.print(f"  {plain(refusal.place)} {plain(refusal.reason)}", soft_wrap=True)
