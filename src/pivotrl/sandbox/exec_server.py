"""Runs inside a container: a command for each JSON line of its input, side by side, and a line for each result.

    {"id": 1, "command": "ls", "folder": "/app", "environment": {}, "seconds": 10, "input": ""}
    {"id": 1, "exit_code": 0, "output": "...", "error": "..."}

``input``, ``output`` and ``error`` are base64. ``exit_code`` is null for a command that was killed for its time.
Nothing is imported but the standard library.
"""

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from typing import Any

MOST = 48 * 1024 * 1024
"""Bytes of an output that are told."""
_writing = threading.Lock()


def answer(request: dict[str, Any]) -> None:
    told: dict[str, Any] = {"id": request["id"], "exit_code": None, "output": "", "error": ""}
    try:
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            given.write(base64.b64decode(request.get("input") or ""))
            given.seek(0)
            process = subprocess.Popen(  # noqa: S603 - inside the container
                ["/bin/bash", "-c", request["command"]],
                cwd=request.get("folder") or "/",
                env={**os.environ, **(request.get("environment") or {})},
                stdin=given,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
            try:
                told["exit_code"] = process.wait(request.get("seconds"))
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            for name, file in (("output", out), ("error", err)):
                file.seek(0)
                told[name] = base64.b64encode(file.read(MOST)).decode()
    except (OSError, ValueError) as error:
        told.update(exit_code=126, error=base64.b64encode(str(error).encode()).decode())
    with _writing:
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


def main() -> None:
    for line in sys.stdin:
        threading.Thread(target=answer, args=(json.loads(line),), daemon=True).start()
    os._exit(0)


if __name__ == "__main__":
    main()
