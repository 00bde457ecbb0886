"""An OpenAI-compatible server of a tiny deterministic model, with the faults of real ones, chosen or at random.

Every sample that it draws has a serial number in its text, and ``drawn`` keeps the truth of each: what the client takes
for a sample can be compared with what was drawn. A bound on tokens cuts a sample, as it does elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HANG_SECONDS = 1.5
LOGPROB = -2.0


@dataclass(frozen=True)
class Sample:
    """What was really drawn."""

    prompt: str
    """Hash of the prompt or of the messages."""
    text: str
    ids: tuple[int, ...]
    finish_reason: str


class Refused(Exception):
    """(status, headers)"""


Answer = dict[str, Any]


def _choices(answer: Answer) -> list[dict[str, Any]]:
    return answer["choices"]


def _one(answer: Answer, dice: random.Random) -> dict[str, Any]:
    return dice.choice(_choices(answer))


def _copied(answer: Answer, dice: random.Random) -> None:
    first, last = _choices(answer)[0], _choices(answer)[-1]
    last.update({key: value for key, value in first.items() if key != "index"})


def _duplicate(answer: Answer, dice: random.Random) -> None:
    _choices(answer)[-1] = dict(_choices(answer)[0])


def _too_many(answer: Answer, dice: random.Random) -> None:
    _choices(answer).append({**_choices(answer)[0], "index": len(_choices(answer))})


def _unnumbered(answer: Answer, dice: random.Random) -> None:
    for choice in _choices(answer):
        choice["index"] = 0


def _conflict(answer: Answer, dice: random.Random) -> None:
    _choices(answer)[0]["index"] = len(_choices(answer)) - 1


def _lose_token(answer: Answer, dice: random.Random) -> None:
    choice = _one(answer, dice)
    if choice.get("token_ids"):
        del choice["token_ids"][len(choice["token_ids"]) // 2]


def _set_logprobs(make: Callable[[list[float]], Any]) -> Callable[[Answer, random.Random], None]:
    def change(answer: Answer, dice: random.Random) -> None:
        choice = _one(answer, dice)
        if choice.get("logprobs"):
            choice["logprobs"]["token_logprobs"] = make(choice["logprobs"]["token_logprobs"])

    return change


def _set(**fields: Any) -> Callable[[Answer, random.Random], None]:
    return lambda answer, dice: _one(answer, dice).update(fields)


def _empty(answer: Answer, dice: random.Random) -> None:
    choice = _one(answer, dice)
    if "message" in choice:
        choice["message"] = {"role": "assistant", "content": ""}
    else:
        choice.update({"text": "", "token_ids": [], "logprobs": None})


CHANGES: dict[str, Callable[[Answer, random.Random], None]] = {
    "no_choices": lambda answer, dice: _choices(answer).clear(),
    "short": lambda answer, dice: _choices(answer).pop(),
    "n_ignored": lambda answer, dice: answer.update(choices=_choices(answer)[:1]),
    "duplicate": _duplicate,
    "copied": _copied,
    "reordered": lambda answer, dice: dice.shuffle(_choices(answer)),
    "too_many": _too_many,
    "unnumbered": _unnumbered,
    "two_of_one_index": _conflict,
    "another_model": lambda answer, dice: answer.update(model="other"),
    "error_as_200": lambda answer, dice: (answer.clear(), answer.update(error={"message": "engine is dead"}))[0],
    "empty": _empty,
    "no_text": _set(text=5),
    "aborted": _set(finish_reason="abort"),
    "no_finish_reason": _set(finish_reason=None),
}
"""Faults that any kind of answer may have."""
TOKEN_CHANGES: dict[str, Callable[[Answer, random.Random], None]] = {
    "token_lost": _lose_token,
    "text_of_another": _set(text="something else entirely"),
    "stop_is_told_length": _set(finish_reason="length"),
    "length_is_told_stop": _set(finish_reason="stop"),
    "logprobs_null": _set(logprobs=None),
    "logprobs_nan": _set_logprobs(lambda values: [float("nan"), *values[1:]]),
    "logprobs_positive": _set_logprobs(lambda values: [0.7, *values[1:]]),
    "logprobs_short": _set_logprobs(lambda values: values[:-1]),
}
"""Faults of answers with token ids."""
BREAKS = ("status_429", "status_500", "status_503", "refused_400", "reset", "hang", "truncated", "html")
"""Faults of the connection."""


class FaultServer(ThreadingHTTPServer):
    """Use it in a ``with`` block.

    Args:
        faults: names of faults, of which one befalls a request at random.
        rate: share of requests with a fault.
        encode: text -> token ids; it speaks of token ids only with it.
        end_id: the token that ends a sample.
        drift: its prompt has one more token than it was sent, and it says so.
        fixed_seed: it ignores seeds: each request gets the same samples.
        refuses: fields that it does not know, and refuses with 400.
        speak: (hash of the prompt, serial number) -> text of a sample.
        message: text -> message of the chat API.
        is_processed: its log-probabilities are those after temperature.
        adapters: how it takes LoRA adapters: "well"; "unlisted"; "unused", it answers as the base model; "kept", also
            after it was told to unload them. None: it knows no adapters.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(
        self,
        faults: Sequence[str] = (),
        rate: float = 0.0,
        *,
        encode: Callable[[str], list[int]] | None = None,
        end_id: int = 2,
        model: str = "m",
        lists_models: bool = True,
        drift: bool = False,
        fixed_seed: bool = False,
        refuses: Sequence[str] = (),
        speak: Callable[[str, int], str] | None = None,
        message: Callable[[str], dict[str, Any]] | None = None,
        is_processed: bool = False,
        adapters: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.faults, self.rate, self.encode, self.end_id, self.model = list(faults), rate, encode, end_id, model
        self.lists_models, self.drift, self.fixed_seed, self.refuses = lists_models, drift, fixed_seed, refuses
        self.speak = speak or (lambda prompt, serial: f"{prompt[:8]} answers {serial:06d}" + " so" * (serial % 5))
        self.message = message or (lambda text: {"role": "assistant", "content": text})
        self.is_processed, self.adapters, self.loaded = is_processed, adapters, set[str]()
        self.drawn: dict[str, Sample] = {}
        self.bodies: list[dict[str, Any]] = []
        self.usages: list[dict[str, int]] = []
        self.happened: Counter[str] = Counter()
        self._dice, self._lock, self._serial = random.Random(seed), threading.Lock(), 0
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def answer(self, path: str, body: dict[str, Any]) -> tuple[str | None, Answer]:
        """(the fault of the connection or None, the answer with its own faults)"""
        with self._lock:
            self.bodies.append(body)
            if any(field in body for field in self.refuses):
                raise Refused(400, {})
            if "lora_name" in body:
                return None, self._adapter(path, body["lora_name"])
            if self.adapters and body["model"] not in {self.model, *self.loaded}:
                raise Refused(404, {})
            fault = self._dice.choice(self.faults) if self.faults and self._dice.random() < self.rate else None
            answer = self._drawn(body, is_chat=path.endswith("chat/completions"))
            if fault:
                self.happened[fault] += 1
            change = {**CHANGES, **TOKEN_CHANGES}.get(fault or "")
            if change:
                change(answer, self._dice)
        if fault in ("status_429", "status_500", "status_503", "refused_400"):
            raise Refused(int(fault.rpartition("_")[2]), {"Retry-After": "0"})
        return fault if fault in BREAKS else None, answer

    def _adapter(self, path: str, name: str) -> Answer:
        if self.adapters is None:
            raise Refused(404, {})
        if path.endswith("/load_lora_adapter"):
            self.loaded.add(name)
        elif self.adapters != "kept":
            self.loaded.discard(name)
        return {}

    def _drawn(self, body: dict[str, Any], is_chat: bool) -> Answer:
        prompt = prompt_of(body["messages"] if is_chat else body["prompt"])
        if body["model"] in self.loaded and self.adapters != "unused":
            prompt = prompt_of([prompt])
        logprob = LOGPROB / body["temperature"] if self.is_processed and body["temperature"] else LOGPROB
        choices, num_tokens = [], 0
        for index in range(body.get("n", 1)):
            self._serial += 1
            same = body["temperature"] == 0 or self.fixed_seed
            sample = self._sample(prompt, 7 if same else self._serial, body["max_tokens"])
            self.drawn[sample.text] = sample
            num_tokens += len(sample.ids) or 12
            choice: dict[str, Any] = {"index": index, "finish_reason": sample.finish_reason}
            if is_chat:
                choice["message"] = self.message(sample.text)
            else:
                choice["text"] = sample.text
                if self.encode and body.get("return_token_ids"):
                    choice["token_ids"] = list(sample.ids)
                    choice["prompt_token_ids"] = [1, *body["prompt"]] if self.drift else body["prompt"]
                    choice["logprobs"] = {"token_logprobs": [logprob] * len(sample.ids)}
            choices.append(choice)
        usage = {"prompt_tokens": len(body.get("prompt", ())) or 30, "completion_tokens": num_tokens}
        self.usages.append(usage)
        return {"model": body["model"], "choices": choices, "usage": usage}

    def _sample(self, prompt: str, serial: int, max_tokens: int) -> Sample:
        text = self.speak(prompt, serial)
        ids = (*self.encode(text), self.end_id) if self.encode else ()
        if len(ids) <= max_tokens:
            return Sample(prompt, text, ids, "stop")
        return Sample(prompt, text[:max_tokens], ids[:max_tokens], "length")  # one byte a token

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up is part of the tests."""

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


def prompt_of(prompt: Any) -> str:
    return hashlib.sha256(json.dumps(prompt).encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    server: FaultServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        names = {self.server.model, *(() if self.server.adapters == "unlisted" else self.server.loaded)}
        rows = [{"id": name, "object": "model", "max_model_len": 2048} for name in sorted(names)]
        if self.server.lists_models:
            self._send(200, json.dumps({"object": "list", "data": rows}), {})
        else:
            self._send(404, "no", {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        try:
            fault, answer = self.server.answer(self.path, body)
        except Refused as refused:
            self._send(refused.args[0], "no", refused.args[1])
            return
        if fault == "hang":
            time.sleep(HANG_SECONDS)
        if fault in ("reset", "hang"):
            self.close_connection = True
            return
        text = json.dumps(answer)
        if fault == "truncated":
            text = text[: len(text) // 2]
        self._send(200, "<html>Bad gateway</html>" if fault == "html" else text, {})

    def _send(self, status: int, text: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(text.encode())), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None: ...
