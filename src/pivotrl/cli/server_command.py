"""The subcommand that tests a server before it is paid for."""

from __future__ import annotations

import dataclasses
import json as json_format

import tyro
from rich import box
from rich.table import Table

from pivotrl import plugins
from pivotrl.cli.tables import out, plain

_STYLES = {"ok": "green", "warning": "yellow", "fault": "bold red"}


def check_server(
    url: tyro.conf.Positional[str],
    model: str,
    tokenizer: str | None = None,
    key_variable: str | None = None,
    lora: str | None = None,
    deadline_seconds: float = 120.0,
    input_price: float | None = None,
    output_price: float | None = None,
    json: bool = False,
) -> None:
    """Test whether an OpenAI-compatible server is fit for sampling, with about forty small requests.

    The last line is the verdict. The exit code is 2 if the server is not fit.

    Args:
        url: Address up to /v1, such as http://127.0.0.1:8000/v1.
        model: Name of the model on the server.
        tokenizer: The model's tokenizer, a Hugging Face id or a folder; prompts are then sent as token ids.
        key_variable: Name of the environment variable that holds the key.
        lora: A LoRA adapter to load, use and unload, as a folder on the server's machine.
        deadline_seconds: Longest time that a request may take, retries included.
        input_price: Price of a million tokens of prompts, to tell what the test cost.
        output_price: Price of a million sampled tokens.
        json: Print the findings as JSON.
    """
    sampler_class = plugins.find("samplers", "openai")  # says which extra is missing
    from pivotrl.samplers.openai.checking import check_server as examine
    from pivotrl.samplers.openai.checking import is_fit

    sampler = sampler_class(
        base_url=url,
        model=model,
        tokenizer=tokenizer,
        key_variable=key_variable,
        deadline_seconds=deadline_seconds,
        input_price=input_price,
        output_price=output_price,
    )
    findings = list(examine(sampler, lora))
    if json:
        rows = [dataclasses.asdict(finding) for finding in findings]
        print(
            json_format.dumps(
                {"mode": "token_ids" if tokenizer else "messages", "is_fit": is_fit(findings), "checks": rows}
            )
        )
    else:
        table = Table("check", "result", "meaning", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for finding in findings:
            table.add_row(finding.name, f"[{_STYLES[finding.status]}]{finding.status}[/]", plain(finding.meaning))
        out.print(table)
        num_warnings = sum(finding.status == "warning" for finding in findings)
        notes = f", with {num_warnings} warning{'s' * (num_warnings != 1)}" if num_warnings else ""
        out.print(f"the server is fit{notes}" if is_fit(findings) else "[bold red]the server is not fit[/]")
        if input_price is not None:
            not_counted = sampler.asking.budget.num_not_counted
            unknown = f"; {not_counted} answers came without a count of tokens" if not_counted else ""
            out.print(f"this test cost {sampler.asking.budget.cost:.4g}{unknown}")
    if not is_fit(findings):
        raise SystemExit(2)
