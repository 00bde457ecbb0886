"""An HTTP server that counts the requests it holds at one time, and holds them until as many are there as expected."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PATIENCE = 10.0
"""Seconds after which it answers although fewer came than expected."""
LINGERS = 0.05
"""Seconds that it holds a request when enough are there, in which one too many would be seen."""


def say_same(body: dict[str, Any]) -> str:
    content = json.dumps({"why": "So it is.", "verdict": "same"})
    choice = {"message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    return json.dumps({"choices": [choice]})


class CrowdedServer(ThreadingHTTPServer):
    """Use it in a ``with`` block.

    Args:
        expected: requests are held until so many are there at one time, once.
        answer: body -> text; may raise ``KeyError(status)``.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, expected: int = 1, answer: Callable[[dict[str, Any]], str] = say_same) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.expected, self.answer = expected, answer
        self.paths: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.peak = self._held = self.num_connections = 0
        self._changed = threading.Condition()
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def hold(self) -> None:
        with self._changed:
            self._held += 1
            self.peak = max(self.peak, self._held)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self.peak >= self.expected, timeout=PATIENCE)
        threading.Event().wait(LINGERS)
        with self._changed:
            self._held -= 1

    def process_request_thread(self, *connection: Any) -> None:
        with self._changed:
            self.num_connections += 1
        super().process_request_thread(*connection)
        with self._changed:
            self.num_connections -= 1

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up is part of the tests."""

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: CrowdedServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.paths.append(self.path)
        self.server.bodies.append(body)
        self.server.keys.append(self.headers["Authorization"])
        self.server.hold()
        headers = {}
        try:
            status, text = 200, self.server.answer(body)
        except KeyError as error:
            status, text, headers = error.args[0], "no", dict(error.args[1:])
        self.send_response(status)
        for name, value in {"Content-Length": str(len(text.encode())), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None: ...
