"""The subcommand that serves a policy to OpenAI-compatible clients."""

from __future__ import annotations

import os

import tyro

from pivotrl.cli.live_progress import errors
from pivotrl.cli.tables import out, plain
from pivotrl.plugins.extras import load_package
from pivotrl.protocols import InputError
from pivotrl.serving.choosing import choose
from pivotrl.serving.options import ServeOptions
from pivotrl.storage.record_files import counted

_KEY_VARIABLE = "PIVOTRL_API_KEY"


def serve(
    target: tyro.conf.Positional[str],
    serving: ServeOptions,
    before: bool = False,
    both: bool = False,
    training: str | None = None,
    policy: str | None = None,
    name: str | None = None,
) -> None:
    """Serve a policy to OpenAI-compatible clients until Ctrl-C or SIGTERM. Requests that run are finished first.

    Args:
        target: A run directory (its trained policy), a model (folder or Hugging Face id), or an adapter folder.
        before: Serve the run's policy before training, under the name before.
        both: Serve the run's policy before and after training, under these names.
        training: Name of the run's training; default is the run's own.
        policy: How the model acts, such as "hf(style='chatml')"; a run knows it already.
        name: Name of the model for clients; default is after, before, or the name of the folder.
    """
    for package in ("uvicorn", "starlette", "httpx"):
        load_package(package, "pivotrl serve")
    from pivotrl.serving.app import Endpoint
    from pivotrl.serving.loading import load
    from pivotrl.serving.server import address_of, listen, run

    key = serving.api_key or os.environ.get(_KEY_VARIABLE) or None
    if key is not None and (not key.isascii() or not key.isprintable() or " " in key):
        raise InputError("the API key must be printable ASCII without blanks, as it is sent in a header")
    choices = choose(target, before=before, both=both, training=training, policy=policy, name=name)
    with listen(serving.host, serving.port, key is not None) as bound:
        models = load(choices, serving, lambda text: errors.print(plain(text), soft_wrap=True))
        endpoint = Endpoint(
            models, api_key=key, max_requests=serving.max_requests, max_request_mib=serving.max_request_mib
        )
        url = address_of(bound, serving.host)

        def ready() -> None:
            for model in models:
                out.print(plain(f"serving {model.name} ({model.root}) at {url}"), soft_wrap=True)
            errors.print("Ctrl-C ends: running requests are finished first, a second one drops them")

        def ending() -> None:
            errors.print(f"finishing {counted(endpoint.num_in_flight, 'request')}")

        try:
            run(endpoint.app, bound, ready, ending)
        finally:
            for model in models:
                model.backend.close()
