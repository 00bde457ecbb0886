"""mini-swe-agent's environment for `pivotrl bench swe`: it asks pivotrl to run each command in its sandbox.

Run by the interpreter of the harness; it imports nothing of pivotrl. The two sides talk in lines of JSON over a socket
whose number the variable ``PIVOTRL_FD`` holds.
"""

from __future__ import annotations

import json
import os
import socket
from typing import Any

from minisweagent.exceptions import Submitted

SUBMITTED = "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"


class SandboxEnvironment:
    def __init__(self, *, instance_id: str, **config: Any) -> None:
        self.config = {"instance_id": instance_id, **config}
        self._stream = socket.socket(fileno=int(os.environ["PIVOTRL_FD"])).makefile("rw", encoding="utf-8")

    def execute(self, action: dict[str, Any], cwd: str = "", *, timeout: int | None = None) -> dict[str, Any]:
        self._stream.write(json.dumps({"command": action.get("command", "")}) + "\n")
        self._stream.flush()
        line = self._stream.readline()
        if not line:
            raise RuntimeError("the sandbox is gone")
        answer: dict[str, Any] = json.loads(line)
        lines = answer["output"].lstrip().splitlines(keepends=True)
        if lines and lines[0].strip() == SUBMITTED and answer["returncode"] == 0:
            submission = "".join(lines[1:])
            told = {"exit_status": "Submitted", "submission": submission}
            raise Submitted({"role": "exit", "content": submission, "extra": told})
        return answer

    def get_template_vars(self, **others: Any) -> dict[str, Any]:
        return {**self.config, **others}

    def serialize(self) -> dict[str, Any]:
        kind = f"{type(self).__module__}.{type(self).__name__}"
        config = {"environment": self.config, "environment_type": kind}
        return {"instance_id": self.config["instance_id"], "info": {"config": config}}
