"""The endpoint as an ASGI app: routes, keys, limits and errors."""

from __future__ import annotations

import hmac
import time
from collections.abc import Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pivotrl.records.strict_json import parse_json
from pivotrl.serving.chat import ChatRequest
from pivotrl.serving.completions import CompletionRequest
from pivotrl.serving.fields import shown
from pivotrl.serving.refusals import Refused
from pivotrl.serving.served import Served
from pivotrl.serving.streams import EventStream, unless_gone

_MEBIBYTE = 1 << 20


class Endpoint:
    """Answers requests for some models.

    Args:
        models: at least one.
        api_key: what clients must send as a bearer token; None: nothing.
        max_requests: requests that wait or are drawn for; further ones are sent away with 429.
        max_request_mib: size of a request's body.
    """

    def __init__(
        self, models: Sequence[Served], *, api_key: str | None, max_requests: int, max_request_mib: float
    ) -> None:
        self._models = {model.name: model for model in models}
        self._key = None if api_key is None else f"Bearer {api_key}".encode()
        self._max_requests, self._max_bytes = max_requests, int(max_request_mib * _MEBIBYTE)
        self._created = int(time.time())
        self.num_in_flight = 0
        routes = [
            Route("/health", self._health),
            Route("/v1/models", self._list),
            Route("/v1/models/{name:path}", self._one),
            Route("/v1/chat/completions", self._chat, methods=["POST"]),
            Route("/v1/completions", self._complete, methods=["POST"]),
        ]
        handlers: dict[Any, Any] = {Refused: _refused, HTTPException: _no_such, Exception: _broken}
        self.app = Starlette(routes=routes, exception_handlers=handlers)

    async def _health(self, request: Request) -> Response:
        faults = {name: fault for name, model in self._models.items() if (fault := model.backend.fault)}
        told = {"status": "faulty", "faults": faults} if faults else {"status": "ok"}
        return JSONResponse(
            {**told, "num_requests": self.num_in_flight, "max_requests": self._max_requests},
            status_code=503 if faults else 200,
        )

    async def _list(self, request: Request) -> Response:
        self._require_key(request)
        rows = [model.row(self._created) for model in self._models.values()]
        return JSONResponse({"object": "list", "data": rows})

    async def _one(self, request: Request) -> Response:
        self._require_key(request)
        return JSONResponse(self._model(request.path_params["name"]).row(self._created))

    async def _chat(self, request: Request) -> Response:
        return await self._respond(request, ChatRequest)

    async def _complete(self, request: Request) -> Response:
        return await self._respond(request, CompletionRequest)

    async def _respond(self, request: Request, kind: type[ChatRequest] | type[CompletionRequest]) -> Response:
        self._require_key(request)
        try:
            asked = kind.of(await self._body(request))
        except ClientDisconnect:
            return _unread()
        model = self._model(asked.wanted.model)
        if self.num_in_flight >= self._max_requests:
            raise Refused(
                f"{self.num_in_flight} requests are in flight, and there is room for no more; try again later",
                status=429,
                code="too_many_requests",
                retry_after=1,
            )
        running = asked.run(model)
        self.num_in_flight += 1
        is_handed_on = False
        try:
            if not asked.wanted.stream:
                return JSONResponse(await unless_gone(request, running.answer()))
            parts = running.stream()
            first = await unless_gone(request, anext(parts, None))  # a fault before it has a status of its own
            is_handed_on = True
            return EventStream(first, parts, self._leave)
        except ClientDisconnect:
            return _unread()
        finally:
            if not is_handed_on:
                self._leave()

    def _leave(self) -> None:
        self.num_in_flight -= 1

    async def _body(self, request: Request) -> Any:
        told = request.headers.get("content-length", "")
        content = bytearray()
        if not (told.isdecimal() and int(told) > self._max_bytes):
            async for part in request.stream():
                content += part
                if len(content) > self._max_bytes:
                    break
        if len(content) > self._max_bytes or (told.isdecimal() and int(told) > self._max_bytes):
            raise Refused(
                f"the request is larger than {self._max_bytes / _MEBIBYTE:g} MiB", status=413, code="request_too_large"
            )
        try:
            return parse_json(bytes(content))
        except (ValueError, RecursionError) as error:
            raise Refused(f"the body is not JSON: {error}", code="invalid_json") from None

    def _model(self, name: str) -> Served:
        if name not in self._models:
            served = ", ".join(self._models)
            raise Refused(
                f"no model called {shown(name)} is served here; there is {served}",
                status=404,
                param="model",
                code="model_not_found",
            )
        return self._models[name]

    def _require_key(self, request: Request) -> None:
        given = request.headers.get("authorization", "").encode("utf-8", "replace")
        if self._key is not None and not hmac.compare_digest(given, self._key):
            told = "is wrong" if given else "is missing; send it as 'Authorization: Bearer KEY'"
            raise Refused(f"the API key {told}", status=401, code="invalid_api_key")


def _unread() -> Response:
    """To a client that hung up."""
    return Response(status_code=499)


async def _refused(request: Request, refusal: Refused) -> Response:
    return JSONResponse(refusal.body, status_code=refusal.status, headers=refusal.headers)


async def _no_such(request: Request, error: HTTPException) -> Response:
    places = "/v1/chat/completions, /v1/completions, /v1/models, /health"
    told = f"{request.method} {request.url.path} is not served here; there are {places}"
    return await _refused(request, Refused(told, status=error.status_code, code="not_found"))


async def _broken(request: Request, error: Exception) -> Response:
    return await _refused(request, Refused(f"the server failed ({type(error).__name__})", status=500, code="internal"))
