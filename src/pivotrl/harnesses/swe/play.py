"""One episode of `pivotrl bench swe`: starts mini-swe-agent, runs its commands in our sandbox, and judges the result.

    python -m pivotrl.harnesses.swe.play episode.json

Run by pivotrl's own interpreter, in the folder of the batch. ``TASK.traj.json`` is mini-swe-agent's own file;
``.result.json`` says what the hidden tests say, or swebench's scorer.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from pivotrl.environments.swe import SweTask
from pivotrl.harnesses.swe import scoring
from pivotrl.harnesses.swe.episode import Episode
from pivotrl.plugins import load
from pivotrl.protocols.harness import json_of
from pivotrl.sandbox import SandboxFault
from pivotrl.sandbox.repositories.task import RepositoryTask
from pivotrl.storage.record_files import write_file

OBSERVATION = (
    "{% if output.exception_info %}<exception>{{ output.exception_info }}</exception>\n{% endif %}"
    "<returncode>{{ output.returncode }}</returncode>\n<output>\n{{ output.output }}"
    "{% if output.output and output.output[-1] != '\n' %}\n{% endif %}</output>"
)
"""The environment's own words, so that a log of mini-swe-agent is restored at every turn."""
JUDGED = {"Submitted", "LimitsExceeded", "TimeExceeded", "RepeatedFormatError", "ContextWindowExceededError"}
"""Ends after which the files count; any other is a fault of the endpoint or of the program."""
_LAST_SECONDS = 30.0
"""In which the program writes its trajectory after its last command."""


def main() -> None:
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    episode = Episode.model_validate_json(Path(sys.argv[1]).read_bytes())
    if episode.played is not None:
        scoring.take_over(Path(episode.played), episode.task)
        result = _told(episode.task)
    else:
        environment = load("environments", episode.environments)().make(episode.task)
        assert isinstance(environment, RepositoryTask)
        try:
            result = _play(episode, environment)
        finally:
            environment.close()
    if episode.scorer is not None and Path(scoring.PREDICTIONS).is_file():
        result["reward"], result["reason"] = scoring.score(episode.scorer, episode.task)
    if result["reward"] is not None:  # the trajectory says nothing of it, and `pivotrl read` wants to know
        path = Path(f"{episode.task}.traj.json")
        write_file(path, json.dumps({**(json_of(path) or {}), "reward": result["reward"]}, indent=2))
    write_file(Path(scoring.RESULT), json.dumps(result).encode())


def _play(episode: Episode, environment: RepositoryTask) -> dict[str, Any]:
    system, user = (message.content or "" for message in environment.reset())
    trajectory = Path(f"{episode.task}.traj.json")
    config = {
        "run": {"task": user},
        "agent": {
            "system_template": "{% raw %}" + system + "{% endraw %}",
            "instance_template": "{{ task }}",
            "step_limit": episode.step_limit,
            "wall_time_limit_seconds": episode.wall_seconds,
            "cost_limit": 0.0,
        },
        "environment": {"environment_class": "sandbox_environment.SandboxEnvironment", "instance_id": episode.task},
        "model": {**episode.model, "observation_template": OBSERVATION},
    }
    Path(".mini.yaml").write_text(json.dumps(config), "utf-8")  # JSON is YAML too
    words = [episode.python, "-m", "minisweagent.run.mini", "--agent-class", "default"]
    words += ["--config", ".mini.yaml", "--output", str(trajectory)]
    ours, theirs = socket.socketpair()
    with (
        ours,
        subprocess.Popen(  # noqa: S603 - the harness that the user installed
            words,
            env={**_environment(), "PIVOTRL_FD": str(theirs.fileno())},
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
        ) as process,
    ):
        theirs.close()
        try:
            fault = _serve(ours, environment)
            with contextlib.suppress(OSError):
                ours.shutdown(socket.SHUT_RDWR)  # where the sandbox failed, the program learns it so
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LAST_SECONDS)
        finally:
            process.kill()
    result = _told(episode.task, fault)
    if fault or result["reason"] not in JUDGED:
        return result
    if episode.scorer is None:
        return {**result, "reward": environment.reward()}
    assert isinstance(environment, SweTask)
    try:
        scoring.write_predictions(Path(), episode.task, environment.patch())
    except SandboxFault as error:
        result["reason"] = f"sandbox_failed: {error}"
    except UnicodeDecodeError:
        result["reason"] = "patch_is_no_text"
    return result


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return kept | {
        "PYTHONPATH": str(Path(__file__).parent),
        "MSWEA_GLOBAL_CONFIG_DIR": str(Path.cwd()),
        "MSWEA_CONFIGURED": "true",
        "MSWEA_SILENT_STARTUP": "1",
        "MSWEA_COST_TRACKING": "ignore_errors",
        "MSWEA_MODEL_RETRY_STOP_AFTER_ATTEMPT": "3",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }


def _serve(channel: socket.socket, environment: RepositoryTask) -> str:
    """Run commands until the other side hangs up. Returns why it stopped before, if it did."""
    with channel.makefile("rw", encoding="utf-8") as stream:
        for line in stream:
            command = json.loads(line)["command"]
            try:
                answer = environment.command(command if isinstance(command, str) else "")
            except SandboxFault as error:
                return f"sandbox_failed: {error}"
            stream.write(json.dumps(answer) + "\n")
            stream.flush()
    return ""


def _told(task: str, fault: str = "") -> dict[str, Any]:
    """What mini-swe-agent's file says, without a reward."""
    log = json_of(Path(f"{task}.traj.json")) or {}
    info = log.get("info") or {}
    usages = [
        ((message.get("extra") or {}).get("response") or {}).get("usage") or {}
        for message in log.get("messages") or ()
        if "response" in (message.get("extra") or {})
    ]
    return {
        "task": task,
        "reward": None,
        "reason": fault or str(info.get("exit_status") or "no_result"),
        "num_turns": (info.get("model_stats") or {}).get("api_calls"),
        "num_prompt_tokens": sum(usage.get("prompt_tokens") or 0 for usage in usages),
        "num_tokens": sum(usage.get("completion_tokens") or 0 for usage in usages),
    }


if __name__ == "__main__":
    main()
