"""Results as JSON, and as the tables of docs/performance.md.

    python benchmarks/results.py        fills the tables from benchmarks/results/*.json

A file holds one entry per load and setting; a new run replaces the entry it repeats and leaves the others.
"""

from __future__ import annotations

import json
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DOCUMENT = Path(__file__).parents[1] / "docs" / "performance.md"
_IDENTITY = ("load", "model", "trained")
_MACHINE_IDENTITY = ("device", "dtype", "threads")


def command_line() -> str:
    return f"python benchmarks/{Path(sys.argv[0]).name} {shlex.join(sys.argv[1:])}".strip()


def save(folder: Path, benchmark: str, entry: Mapping[str, Any]) -> Path:
    """Put the entry into ``<folder>/<benchmark>.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{benchmark}.json"
    entries = json.loads(path.read_text()) if path.exists() else []
    entries = [old for old in entries if identity(old) != identity(entry)] + [entry]
    path.write_text(json.dumps(entries, indent=1, sort_keys=True) + "\n")
    return path


def identity(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    """An entry of the same one takes its place."""
    machine = entry["machine"]
    return (*(entry.get(key) for key in _IDENTITY), *(machine.get(key) for key in _MACHINE_IDENTITY))


def table(entry: Mapping[str, Any]) -> str:
    """One entry as Markdown: a line of setting, the rows, the command."""
    machine, tokens = entry["machine"], entry["tokens"]
    on = machine["device"] if machine["device"] != "cpu" else machine["processor"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [
        f"**{entry['load']}**, {entry['model']}, {entry['trained']}: {tokens['logical']:,} logical, "
        f"{tokens['grouped']:,} grouped, {tokens['unique']:,} unique tokens. {on}, {machine['threads']} of "
        f"{machine['cores']} cores, {machine['dtype']}, {machine['date']}; {versions}. "
        f"Bound {entry['bound_seconds']:.3g} s ({entry['bound']}).",
        "",
        f"| | median s | times {_base(entry)} [95 %] | FLOP model | TFLOP counted | peak MB | of bound | notes |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
        *map(_line, entry["rows"]),
        "",
        f"`{entry['command']}`",
    ]
    return "\n".join(lines)


def verification_table(entry: Mapping[str, Any]) -> str:
    """An entry of ``bench_verification.json`` as Markdown."""
    machine, base = entry["machine"], entry["rows"][0]["name"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [
        f"**{entry['load']}**: {entry['setting']}. {machine['processor']}, {machine['cores']} cores, load average "
        f"{machine['load_average']:.1f}, {machine['date']}; {versions}.",
        "",
        f"| | verdicts | median s | verdicts a second | times {base} [95 %] |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for row in entry["rows"]:
        faster, low, high = row["times_faster"]
        interval = f" [{low:.2f}, {high:.2f}]" if len(row["seconds"]) > 1 else ""
        lines.append(
            f"| {row['name']} | {row['verdicts']:,} | {row['median_seconds']:.3g} | "
            f"{row['verdicts_per_second']:,.4g} | {faster:.2f}{interval} |"
        )
    return "\n".join([*lines, "", f"`{entry['command']}`"])


def memory_table(entries: Sequence[Mapping[str, Any]]) -> str:
    """``bench_memory.json`` as Markdown: one table of all rows."""
    lines = [
        "| model | trained | processes | batch | loading, MB | learning, MB | sampling, MB | peak, told and measured |",
        "| --- | --- | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for entry in entries:
        told, measured = entry["told"], entry["measured"]
        cells = [f"{told[name] / 1e6:,.0f} / {measured[name] / 1e6:,.0f}" for name in measured]
        what = [entry["model"], entry["trained"], str(entry["processes"]), entry["load"]]
        lines.append(f"| {' | '.join([*what, *cells])} | {entry['error']:+.1%} |")
    machine, errors = entries[-1]["machine"], [abs(entry["error"]) for entry in entries]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    within = sum(error <= 0.15 for error in errors)
    lines += [
        "",
        f"Told / measured; {within} of {len(errors)} peaks within 15 %, median {statistics.median(errors):.1%}. "
        f"{machine['processor']}, {machine['dtype']}, {machine['date']}; {versions}.",
        "",
        "`python benchmarks/bench_memory.py`",
    ]
    return "\n".join(lines)


def scaling_table(entry: Mapping[str, Any]) -> str:
    """An entry of ``bench_scaling.json`` as Markdown."""
    machine, (one, two) = entry["machine"], entry["told"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    replicas, apart = entry["replicas"], entry["weights_apart"]
    seconds = {
        number: [f"{run['sampling'] + run['learning']:.1f}" for run in runs]
        for number, runs in entry["seconds"].items()
    }
    lines = [
        f"**{entry['model']}**, {entry['trained']}, {entry['load']}. {machine['processor']}, {machine['cores']} cores, "
        f"load average {machine['load_average']:.1f}, {machine['dtype']}; {versions}.",
        "",
        f"- A step (sampling and update): {', '.join(seconds['1'])} s in one process, {', '.join(seconds['2'])} s in "
        f"two: **{entry['faster']:.2f} times as fast**. One process with two threads: {entry['two_threads']:.1f} s.",
        f"- Told from one process and the link: {one['seconds']:.1f} s and {two['seconds']:.1f} s "
        f"({two['seconds'] / entry['measured_two'] - 1:+.0%} of what two took).",
        f"- Weights of one and two processes: apart by {apart['norm']:.1e} of the way they went.",
        f"- Samples from two Ray workers: {replicas['faster']:.2f} times as fast as from one; "
        f"{replicas['same_samples'][0]} of {replicas['same_samples'][1]} the same.",
        "",
        "| trajectories in a step | devices | step, s | times as fast | exchange, s | busiest process / mean |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for each in entry["simulated"]:
        base = each["steps"][0]["seconds"]
        for step in each["steps"]:
            cells = [f"{step['seconds']:.1f}", f"{base / step['seconds']:.1f}", f"{step['exchange']:.2f}"]
            cells = [str(each["trajectories"]), str(step["processes"]), *cells, f"{step['busiest']:.2f}"]
            lines.append(f"| {' | '.join(cells)} |")
    ignored = "; ".join(entry["ignored"])
    return "\n".join([*lines, "", f"The simulation ignores: {ignored}.", "", f"`{entry['command']}`"])


def store_table(entry: Mapping[str, Any]) -> str:
    """``store.json`` as Markdown."""
    machine, by_clock, by_processor = entry["machine"], entry["rows_per_second"], entry["rows_per_processor_second"]
    lines = ["| | rows a second | rows per second of the processor |", "| --- | ---: | ---: |"]
    lines += [
        f"| {name} | {statistics.median(found):,.0f} | {statistics.median(by_processor[name]):,.0f} |"
        for name, found in by_clock.items()
    ]
    return "\n".join(
        [
            *lines,
            "",
            f"{entry['rows']:,} rows, median of {len(by_clock['written'])}; {machine['processor']}, "
            f"{machine['cores']} cores, load average {machine['load_average']:.1f}, {entry['date']}.",
            "",
            f"`{entry['command']}`",
        ]
    )


def _line(row: Mapping[str, Any]) -> str:
    if "seconds" not in row:
        return f"| {row['name']} | | | | | | | {row['reason']} |"
    ratio, low, high = row["ratio"]
    cells = [
        row["name"],
        f"{row['median_seconds']:.3g}",
        f"{ratio:.2f} [{low:.2f}, {high:.2f}]",
        f"{row['predicted_ratio']:.2f} ({ratio / row['predicted_ratio']:.0%})",
        f"{row['flops'] / 1e12:.3g}" if "flops" in row else "",
        f"{row['peak_bytes'] / 1e6:,.0f}" if "peak_bytes" in row else "",
        f"{row['fraction_of_bound']:.0%}",
        _notes(row),
    ]
    return f"| {' | '.join(cells)} |"


def _base(entry: Mapping[str, Any]) -> str:
    return next((str(row["base"]) for row in entry["rows"] if "base" in row), "")


def _notes(row: Mapping[str, Any]) -> str:
    notes = [f"micro-batch {row['micro_batch']}"] if row.get("micro_batch") else []
    if "gradient_error" in row:
        notes.append(f"gradient off by {row['gradient_error']:.1e}")
    notes += [f"{name} {value:.3g} s" for name, value in row.get("phases", {}).items()]
    if "tokens_per_second" in row:
        notes.append(f"{row['tokens_per_second']:,.0f} tokens/s")
    if "prefilled" in row:
        notes.append(f"{row['prefilled']:,} tokens prefilled, {row['kept_bytes'] / 1e6:,.0f} MB kept")
    if "same_samples" in row:
        notes.append("{} of {} samples the same".format(*row["same_samples"]))
    if "error" in row:
        notes.append(f"not probed: {row['error']}")
    return ", ".join(notes)


_COMPARED = {
    "bench_update": ("An update", ("hf-padded", "prefix-grouper", "trl-grpo")),
    "bench_iteration": ("An iteration (profile, sample, update)", ("trl-grpo",)),
    "bench_decode": ("Sampling", ("generate", "vllm")),
}


def headline(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """One line a benchmark: how many times as long each named contestant takes, load by load.

    Args:
        results: benchmark -> its entries.
    """
    lines = []
    for benchmark, (what, names) in _COMPARED.items():
        told = [_compared(name, results.get(benchmark, ())) for name in names]
        if any(told):
            lines.append(f"- {what}, times as long as pivotrl: {'; '.join(filter(None, told))}.")
    return "\n".join(lines)


def _compared(name: str, entries: Sequence[Mapping[str, Any]]) -> str:
    """Loads in parentheses, with the number of threads where it is not one."""

    def setting(entry: Mapping[str, Any]) -> str:
        threads = entry["machine"]["threads"]
        return entry["load"].partition(" ")[0] + (f", {threads} threads" if threads > 1 else "")

    loads = [
        f"{row['ratio'][0]:.1f} ({setting(entry)})"
        for entry in entries
        for row in entry["rows"]
        if row["name"] == name and "ratio" in row
    ]
    return f"{name} {', '.join(loads)}" if loads else ""


def fill(text: str, tables: Mapping[str, Sequence[str]]) -> str:
    """Replace the text between ``<!-- name -->`` and ``<!-- end -->``, for each name.

    Raises:
        ValueError: an opening marker without its end.
    """
    for name, parts in tables.items():
        opening, closing = f"<!-- {name} -->", "<!-- end -->"
        if opening not in text:
            continue
        before, _, rest = text.partition(opening)
        _, end, after = rest.partition(closing)
        if not end:
            raise ValueError(f"{opening} has no {closing} after it")
        text = f"{before}{opening}\n\n" + "\n\n".join(parts) + f"\n\n{closing}{after}"
    return text


_TABLES = {"bench_verification": verification_table, "bench_scaling": scaling_table}
"""Of benchmarks that do not compare ways to do the same operations."""


def main() -> None:
    folder = Path(__file__).parent / "results"
    found = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("bench_*.json"))}
    memory = found.pop("bench_memory", [])
    tables = {name: [_TABLES.get(name, table)(entry) for entry in entries] for name, entries in found.items()}
    tables["store"] = [store_table(json.loads((folder / "store.json").read_text()))]
    if memory:
        tables["bench_memory"] = [memory_table(memory)]
    DOCUMENT.write_text(fill(DOCUMENT.read_text(), {"headline": [headline(found)], **tables}))
    print(f"{DOCUMENT.name}: {sum(map(len, tables.values()))} tables from {', '.join(tables) or 'no result'}")


if __name__ == "__main__":
    main()
