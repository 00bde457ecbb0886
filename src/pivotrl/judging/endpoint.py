"""One question to a model behind an OpenAI-compatible endpoint: chat completions, a JSON answer, a total deadline."""

from __future__ import annotations

import asyncio
import email.utils
import json
import random
import re
import time
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pivotrl.protocols import InputError
from pivotrl.storage.record_files import sha256_of_json, write_file
from pivotrl.strict_json import parse_json

_HOST = re.compile(r"[\w.-]+|[0-9a-fA-F:.]+(%[\w.-]+)?")
_MAX_HOST = 253
_MAX_ANSWER_BYTES = 1 << 20
_FIRST_PAUSE = 0.5
"""Seconds before the second try; doubled each time, times a random factor of 0.5 to 1.5."""
_PATIENCE = 5.0
"""Seconds, at most, to wait for a connection to an address that has not answered yet."""
_REACHED: set[str] = set()
"""Addresses that have answered this process: one that never did is mistaken, one that did is busy or broken."""
_USERS_MISTAKES = {401: "the key is refused", 403: "access is denied", 404: "there is no such endpoint or model"}


class JudgeAnswer(BaseModel):
    """What the model must answer, and nothing else."""

    model_config = ConfigDict(extra="forbid", strict=True)
    why: str = Field(max_length=2000)
    verdict: Literal["same", "first", "second"]


class NoAnswer(Exception):
    """The model gave no answer that can be used. ``reason``: judge_unavailable, judge_refused or judge_unparsable."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True)
class Endpoint:
    """Asks one model.

    Args:
        base_url: up to and without ``/chat/completions``.
        key: sent as a bearer token; never stored, logged, or part of an error.
        deadline_seconds: of a question, all tries and pauses together.
        max_tries: how often a question is sent when the server is busy, broken or out of reach.
        cache: folder for answers, one file a question; None keeps none.
    """

    base_url: str
    model: str
    key: str | None
    deadline_seconds: float
    max_tries: int
    max_tokens: int
    cache: Path | None

    async def ask(self, client: httpx.AsyncClient, messages: list[dict[str, str]]) -> JudgeAnswer:
        """The model's answer, at temperature 0; from the cache where it was given before.

        Raises:
            NoAnswer: there is none, or it is not a :class:`JudgeAnswer`.
            InputError: the server refuses the key or does not know the model, or was never there.
        """
        body = {"model": self.model, "messages": messages, "temperature": 0, "max_tokens": self.max_tokens}
        key = sha256_of_json(body)
        path = self.cache / key[:2] / f"{key}.json" if self.cache else None
        if path and (known := _read(path, key)):
            return known
        try:
            async with asyncio.timeout(self.deadline_seconds):
                text = await self._send(client, body)
        except TimeoutError:
            raise NoAnswer("judge_unavailable", f"no answer within {self.deadline_seconds:g} s") from None
        answer = _parse(text)
        if path:
            write_file(path, json.dumps({"key": key, "model": self.model, "answer": answer.model_dump()}))
        return answer

    async def _send(self, client: httpx.AsyncClient, body: dict[str, Any]) -> str:
        schema = {"name": "comparison", "strict": True, "schema": JudgeAnswer.model_json_schema()}
        sent, fault = {**body, "response_format": {"type": "json_schema", "json_schema": schema}}, ""
        tries, pause, started, connected = 0, _FIRST_PAUSE, time.monotonic(), False
        while True:
            tries += 1
            try:
                status, headers, content = await self._post(client, sent)
            except httpx.HTTPError as error:
                fault, wait = f"{type(error).__name__} {error}".strip(), None
                connected |= not isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout))
            else:
                connected = True
                _REACHED.add(self.base_url)
                if status == 200:
                    return content
                if status in _USERS_MISTAKES:
                    raise InputError(
                        f"the judge at {self.base_url} answers {status}, {_USERS_MISTAKES[status]}; check its address, "
                        f"the model {self.model!r} and the environment variable with its key"
                    )
                if status < 500 and status not in (408, 409, 425, 429):
                    if "response_format" in sent and status in (400, 422):  # a server that knows no schemas
                        sent, tries = body, tries - 1
                        continue
                    raise NoAnswer("judge_refused", f"status {status}")
                fault, wait = f"status {status}", _retry_after(headers.get("retry-after"))
            if wait is None:
                wait, pause = pause * random.uniform(0.5, 1.5), 2 * pause  # noqa: S311
            limit = self.deadline_seconds if connected else self._patience
            if tries < self.max_tries and time.monotonic() - started + wait < limit:
                await asyncio.sleep(wait)
            else:
                break
        if not connected and self.base_url not in _REACHED:
            raise InputError(
                f"the judge at {self.base_url} cannot be reached ({fault}, tried {tries} times); start its server, "
                "or mend base_url"
            )
        raise NoAnswer("judge_unavailable", f"{fault}, tried {tries} times")

    @property
    def _patience(self) -> float:
        """Seconds to wait for a connection; of an address that has not answered yet fewer than the deadline, which
        would not tell why it passed."""
        return self.deadline_seconds if self.base_url in _REACHED else min(_PATIENCE, self.deadline_seconds / 2)

    async def _post(self, client: httpx.AsyncClient, body: dict[str, Any]) -> tuple[int, httpx.Headers, str]:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        url = f"{self.base_url.rstrip('/')}/chat/completions"
        timeout = httpx.Timeout(self.deadline_seconds, connect=self._patience)
        async with client.stream("POST", url, json=body, headers=headers, timeout=timeout) as response:
            content = bytearray()
            async for part in response.aiter_bytes():
                content += part
                if len(content) > _MAX_ANSWER_BYTES:
                    raise NoAnswer("judge_unparsable", f"more than {_MAX_ANSWER_BYTES} bytes")
        return response.status_code, response.headers, content.decode("utf-8", "replace")


def require_address(base_url: str) -> None:
    """Refuse what no request can be sent to.

    Raises:
        InputError: the text is no http or https address, or it holds a password.
    """
    if isinstance(base_url, str) and "@" in base_url.partition("://")[2].partition("/")[0]:
        raise InputError(
            "judge: the address holds a user name or a password, which would stand in every manifest; leave it out and "
            "name the environment variable that holds the key by key_variable"
        )
    fault = ""
    try:
        parts = urllib.parse.urlsplit(base_url)
        httpx.URL(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            fault = "it has to begin with http:// or https://, a host after it, and no ? or #"
        elif parts.port == 0 or not _HOST.fullmatch(parts.hostname):
            fault = f"{parts.netloc!r} is no host"
        elif len(parts.hostname.encode("idna")) > _MAX_HOST:
            fault = "the host's name is too long"
        elif any(char.isspace() or not char.isprintable() for char in base_url):
            fault = "it holds a blank"
    except (ValueError, TypeError, AttributeError, httpx.InvalidURL) as error:
        fault = str(error)
    if fault:
        raise InputError(f"judge: {base_url!r} is no address ({fault}); write it as 'http://127.0.0.1:8000/v1'")


def _parse(text: str) -> JudgeAnswer:
    try:
        choice = parse_json(text)["choices"][0]
        content = choice["message"]["content"]
        if choice.get("finish_reason") == "length":
            raise ValueError("the answer is cut off")
        return JudgeAnswer.model_validate(parse_json(content))
    except (ValueError, LookupError, TypeError, AttributeError, ValidationError) as error:
        raise NoAnswer("judge_unparsable", str(error).splitlines()[0][:200]) from None


def _read(path: Path, key: str) -> JudgeAnswer | None:
    """A damaged file is no answer; it is written anew."""
    try:
        entry = parse_json(path.read_bytes())
        return JudgeAnswer.model_validate(entry["answer"]) if entry["key"] == key else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _retry_after(value: str | None) -> float | None:
    """Seconds that a server asks to wait: a number, or a date."""
    if value is None:
        return None
    try:
        return max(0.0, float(value)) if value.strip().isdigit() else _seconds_until(value)
    except (ValueError, TypeError, OverflowError):
        return None


def _seconds_until(date: str) -> float:
    return max(0.0, email.utils.parsedate_to_datetime(date).timestamp() - time.time())
