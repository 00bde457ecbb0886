"""A server like vLLM for the tests: it really runs a tiny model with transformers and peft, takes adapters and whole
weights while it runs, keeps a prefix cache, and has the faults of real ones.

It shares no code with the engine, so what it says is a second opinion.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

END = 2


class VersionServer(ThreadingHTTPServer):
    """Use it in a ``with`` block.

    Args:
        folder: of the base model.
        lora: whether it takes adapters while it runs.
        dev: whether it has the calls of vLLM's developer mode.
        max_adapters: it refuses more.
        fault: ``stale``: new weights are taken, and the first ones act. ``keeps_cache``: its prefix cache outlives the
            weights, and no call empties it. ``other_logprobs``: it tells the log-probabilities of the base model.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(
        self,
        folder: Path,
        *,
        lora: bool = True,
        dev: bool = True,
        max_adapters: int = 100,
        fault: str = "",
        name: str = "m",
        port: int = 0,
    ) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.lora, self.dev, self.max_adapters, self.fault, self.name = lora, dev, max_adapters, fault, name
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.first = self.base
        self.adapters: dict[str, Any] = {}
        self.roots: dict[str, str] = {}
        self.loaded: list[str] = []
        """Everything that was ever loaded: names of adapters, folders of weights."""
        self.weight_version = "default"
        self.num_resets = 0
        self.bodies: list[dict[str, Any]] = []
        """Requests for samples that were answered."""
        self.is_gone = False
        """It hangs up on everybody."""
        self.gone_after: int | None = None
        """After so many requests for samples, the canary's left out."""
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.waiting = threading.Event()
        self._caches: dict[Any, DynamicCache] = {}
        self._lock, self._serial = threading.Lock(), 0
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    @property
    def asked(self) -> list[dict[str, Any]]:
        """Requests for samples of turns, the canary's left out."""
        return [body for body in self.bodies if body.get("seed") != 20_250_701]

    def get(self, path: str) -> tuple[int, Any]:
        if path == "/v1/models":
            rows = [{"id": self.name, "max_model_len": 2048}]
            rows += [{"id": name, "root": self.roots[name], "parent": self.name} for name in self.adapters]
            return 200, {"data": rows}
        if path == "/weight_info" and self.dev:
            return 200, {"weight_version": self.weight_version}
        return (200, {}) if path == "/health" else (404, {"detail": "Not Found"})

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path == "/v1/completions":
            return self._complete(body)
        with self._lock:
            if path == "/v1/load_lora_adapter" and self.lora:
                return self._load(body["lora_name"], body["lora_path"])
            if path == "/v1/unload_lora_adapter" and self.lora:
                found = self.adapters.pop(body["lora_name"], None)
                return (200, {}) if found is not None else (404, _error("cannot be found"))
            if not self.dev:
                return 404, {"detail": "Not Found"}
            if path == "/reset_prefix_cache":
                self.num_resets += 1
                if self.fault != "keeps_cache":
                    self._caches.clear()
                return 200, {"success": True}
            if path == "/collective_rpc" and body["method"] == "reload_weights":
                folder = body["kwargs"]["weights_path"]
                self.loaded.append(folder)
                if self.fault != "stale":
                    self.base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
                return 200, {"results": [None]}
            if path == "/update_weight_version":
                self.weight_version = body["new_version"]
                return 200, {"success": True}
        return 404, {"detail": "Not Found"}

    def restart(self) -> None:
        """Lose everything, as a server does that is started again."""
        self.adapters, self.base, self.weight_version = {}, self.first, "default"
        self._caches.clear()
        self.is_gone, self.gone_after = False, None

    def _load(self, name: str, path: str) -> tuple[int, Any]:
        if len(self.adapters) >= self.max_adapters:
            return 400, _error("No free lora slots")
        self.loaded.append(name)
        if self.fault == "stale" and self.roots:
            path = next(iter(self.roots.values()))
            model = next(iter(self.adapters.values()))
        else:
            model = PeftModel.from_pretrained(copy.deepcopy(self.first), path).eval()
        self.adapters[name], self.roots[name] = model, path
        return 200, "Success"

    def _complete(self, body: dict[str, Any]) -> tuple[int, Any]:
        is_canary = body.get("seed") == 20_250_701
        if not is_canary:
            self.waiting.set()
            self.may_answer.wait(30)
        with self._lock:
            if self.gone_after is not None and not is_canary and len(self.asked) >= self.gone_after:
                self.is_gone = True
            if self.is_gone:
                raise ConnectionAbortedError
            model = self.base if body["model"] == self.name else self.adapters.get(body["model"])
            if model is None:
                return 404, _error("The model does not exist")
            choices = []
            for index in range(body.get("n", 1)):
                self._serial += 1
                seed = body["seed"] + index if "seed" in body else self._serial
                ids, logprobs, ended = self._draw(model, body, seed)
                text = self.tokenizer.decode(ids[:-1] if ended else ids, skip_special_tokens=False)
                choices.append(
                    {
                        "index": index,
                        "text": text,
                        "token_ids": ids,
                        "prompt_token_ids": body["prompt"],
                        "logprobs": {"token_logprobs": logprobs},
                        "finish_reason": "stop" if ended else "length",
                    }
                )
            self.bodies.append(body)
        usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": sum(len(c["token_ids"]) for c in choices)}
        return 200, {"model": body["model"], "choices": choices, "usage": usage}

    @torch.no_grad()
    def _draw(self, model: Any, body: dict[str, Any], seed: int) -> tuple[list[int], list[float], bool]:
        dice, prompt = torch.Generator().manual_seed(seed), body["prompt"]
        cache = self._prefix(model, body)
        telling = self._prefix(self.first, body) if self.fault == "other_logprobs" else None
        ids, logprobs, token = [], [], prompt[-1]
        for _ in range(body["max_tokens"]):
            told = _next(model, token, cache)
            drawn_from = torch.softmax(told / max(body["temperature"], 1e-4), dim=-1)
            said = told if telling is None else _next(self.first, token, telling)
            token = int(torch.multinomial(drawn_from, 1, generator=dice))
            ids.append(token)
            logprobs.append(float(torch.log_softmax(said, dim=-1)[token]))
            if token in (END, *body.get("stop_token_ids", ())):
                return ids, logprobs, True
        return ids, logprobs, False

    def _prefix(self, model: Any, body: dict[str, Any]) -> DynamicCache:
        """Keys and values of the prompt but for its last token."""
        key: Any = tuple(body["prompt"])
        if self.fault != "keeps_cache":
            key = (key, body["model"], body.get("cache_salt"), model is self.first)
        if key not in self._caches:
            cache = DynamicCache()
            model(input_ids=torch.tensor([body["prompt"][:-1]]), past_key_values=cache, use_cache=True)
            self._caches[key] = cache
        return copy.deepcopy(self._caches[key])

    def handle_error(self, *_: Any) -> None:
        """A server that hangs up is part of the tests."""

    def __exit__(self, *_: object) -> None:
        self.may_answer.set()
        self.shutdown()
        self.server_close()


def _next(model: Any, token: int, cache: DynamicCache) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=torch.tensor([[token]]), past_key_values=cache, use_cache=True).logits
    return logits[0, -1].float()


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message}}


def seeds(bodies: Sequence[dict[str, Any]]) -> list[int]:
    """Of requests for one sample each: every sample of a training has a seed of its own."""
    return [body["seed"] for body in bodies]


class _Handler(BaseHTTPRequestHandler):
    server: VersionServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(lambda: self.server.get(self.path))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(lambda: self.server.post(self.path, body))

    def _answer(self, make: Any) -> None:
        if self.server.is_gone:
            self.close_connection = True
            return
        try:
            status, answer = make()
        except ConnectionAbortedError:
            self.close_connection = True
            return
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None: ...
