"""An endpoint that gives scripted answers: it shows that a harness is sound before a model is blamed."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from typing import Any, Literal

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pivotrl.protocols import InputError
from pivotrl.protocols.harness import Asked, Gold
from pivotrl.records.strict_json import parse_json
from pivotrl.serving.refusals import Refused

MODEL = "gold"


def scripted_app(gold: Gold) -> Starlette:
    """Chat completions that ``gold`` answers.

    The task is named by the path, ``/agent/TASK/v1/chat/completions``, or by the field ``user`` of a request to
    ``/v1/chat/completions``.
    """

    async def chat(request: Request) -> Response:
        try:
            return JSONResponse(_completion(gold, parse_json(await request.body()), request.path_params))
        except Refused as refusal:
            return JSONResponse(refusal.body, status_code=refusal.status)

    async def models(request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "pivotrl"}]})

    paths = ("", "/{role}/{task:path}")
    routes = [Route(f"{path}/v1/chat/completions", chat, methods=["POST"]) for path in paths]
    return Starlette(routes=[*routes, *(Route(f"{path}/v1/models", models) for path in paths)])


def _completion(gold: Gold, body: Any, place: Mapping[str, str]) -> dict[str, Any]:
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
        raise Refused("the body has no messages", param="messages")
    if body.get("stream"):
        raise Refused("the scripted player sends whole answers alone; leave out stream", param="stream")
    task = place.get("task") or body.get("user")
    if not isinstance(task, str):
        raise Refused("the request does not say which task it belongs to: its field user must be the id", param="user")
    role: Literal["agent", "user"] = "user" if place.get("role") == "user" else "agent"
    try:
        answer = gold(Asked(task, role, body["messages"], body.get("tools") or ()))
    except KeyError:
        raise Refused(f"there is no gold answer for the task {task!r}", status=404, param="user") from None
    except InputError as error:
        raise Refused(str(error)) from None
    calls = [
        {
            "id": f"call_{uuid.uuid4().hex[:16]}",
            "type": "function",
            "function": {"name": call["name"], "arguments": json.dumps(call["arguments"])},
        }
        for call in answer.get("tool_calls") or ()
    ]
    message = {"role": "assistant", "content": answer.get("content"), **({"tool_calls": calls} if calls else {})}
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    }
