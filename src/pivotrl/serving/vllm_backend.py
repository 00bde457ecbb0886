"""vLLM as a backend: token ids go to its completions endpoint, and token ids come back."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import httpx

from pivotrl.protocols.live import Ask, LiveToken, News
from pivotrl.serving.backends import Begun, Mailbox, Told, told_in
from pivotrl.serving.refusals import Refused
from pivotrl.serving.vllm_process import VllmProcess

_MARK = "token_id:"


class VllmBackend:
    """Asks a vLLM that we started.

    Args:
        process: the server.
        model: the name there: of the base model, or of an adapter.
    """

    tells_tops = True

    def __init__(self, process: VllmProcess, model: str) -> None:
        self._process, self._model = process, model
        self._client: httpx.AsyncClient | None = None

    @property
    def fault(self) -> str | None:
        return self._process.fault

    @contextlib.asynccontextmanager
    async def open(self, asks: Sequence[Ask]) -> AsyncIterator[AsyncIterator[Sequence[Told]]]:
        if self._client is None:
            patient = httpx.Timeout(None, connect=30.0)  # an answer takes as long as it takes
            self._client = httpx.AsyncClient(timeout=patient, trust_env=False, limits=httpx.Limits())
        mailbox: Mailbox = asyncio.Queue()
        tasks = [asyncio.create_task(self._ask(number, ask, mailbox)) for number, ask in enumerate(asks)]
        try:
            yield told_in(mailbox)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def close(self) -> None:
        self._process.stop()

    async def _ask(self, number: int, ask: Ask, mailbox: Mailbox) -> None:
        """Puts the news into the mailbox. What ends the last sample waits for the end of vLLM's stream, which tells how
        many tokens were cached: whoever reads the mailbox stops at the last end."""
        assert self._client is not None
        growing, held = set(range(ask.num_samples)), list[Told]()
        try:
            url = f"{self._process.url}/v1/completions"
            async with self._client.stream("POST", url, json=_body(self._model, ask)) as response:
                if response.status_code != 200:
                    raise _refusal(response.status_code, await response.aread())
                async for line in response.aiter_lines():
                    if line.startswith("data: {"):
                        news = _told(json.loads(line[6:]), ask)
                        growing -= {one.sample for one in news if isinstance(one, News) and one.finish}
                        told = [(number, one) for one in news]
                        if growing:
                            mailbox.put_nowait(told)
                        else:
                            held += told
            if growing:
                raise ValueError(f"its stream ended before {len(growing)} of {ask.num_samples} samples did")
            mailbox.put_nowait(sorted(held, key=lambda told: isinstance(told[1], News)))  # the cached tokens first
        except Refused as refusal:
            mailbox.put_nowait(refusal)
        except Exception as error:  # a task that dies unseen would leave its client waiting
            fault = self.fault or f"vLLM gave no usable answer ({type(error).__name__}: {error})"
            mailbox.put_nowait(Refused(fault, status=503, code="engine_failed"))


def _body(model: str, ask: Ask) -> dict[str, Any]:
    sampling = ask.sampling
    return {
        "model": model,
        "prompt": list(ask.prompt),
        "n": ask.num_samples,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k or -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "seed": sampling.seed,
        "max_tokens": sampling.max_tokens,
        "stop_token_ids": sorted(ask.stop_ids),
        "ignore_eos": True,  # the end tokens are among the stop tokens, or not wanted
        "skip_special_tokens": False,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
        "stream": True,
        "stream_options": {"include_usage": True},
        **({} if ask.num_top is None else {"logprobs": ask.num_top}),
    }


def _refusal(status: int, content: bytes) -> Refused:
    try:
        told = json.loads(content)
        message = str(told.get("error", told).get("message", told))
    except (ValueError, AttributeError):
        message = content.decode("utf-8", "replace")[:200]
    return Refused(f"vLLM refuses the request: {message}", status=status if status < 500 else 502, code="engine_failed")


def _told(part: Mapping[str, Any], ask: Ask) -> list[Begun | News]:
    """What one part of vLLM's stream says."""
    if "error" in part:
        raise Refused(f"vLLM failed: {part['error']}", status=502, code="engine_failed")
    found: list[Begun | News] = []
    if (usage := part.get("usage")) and (details := usage.get("prompt_tokens_details")):
        found.append(Begun(details.get("cached_tokens") or 0))
    for choice in part["choices"]:
        ids, finish = choice.get("token_ids") or [], choice.get("finish_reason")
        told = choice.get("logprobs") or {}
        logprobs = told.get("token_logprobs") or [None] * len(ids)
        tops = told.get("top_logprobs") or [{}] * len(ids)
        tokens = [
            LiveToken(token, logprob, _top(top, ask.num_top or 0))
            for token, logprob, top in zip(ids, logprobs, tops, strict=True)
        ]
        found.append(News(choice["index"], tuple(tokens), "length" if finish == "length" else finish and "stop"))
    return found


def _top(told: Mapping[str, float], number: int) -> tuple[tuple[int, float], ...]:
    """vLLM adds the sampled token, which may not be among the most likely."""
    pairs = sorted(((int(name.removeprefix(_MARK)), value) for name, value in told.items()), key=lambda pair: -pair[1])
    return tuple(pairs[:number])
