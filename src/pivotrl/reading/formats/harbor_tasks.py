"""Tasks in the layout of Harbor, which runs Terminal-Bench 2: a folder each.

    task.toml          settings
    instruction.md     what the agent is told
    environment/       Dockerfile and what it copies
    tests/test.sh      run at the end; writes /logs/verifier/reward.txt or reward.json
    solution/solve.sh  optional

Without docker, a task can be played whose image is nothing but a common base and copied files. Every other is refused
with the reason.
"""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from pivotrl.protocols import InputError
from pivotrl.records import Refusal

_BASE = re.compile(r"(?:docker\.io/)?(?:library/)?(?:debian|ubuntu|python|buildpack-deps)(?::[\w.-]+)?(?:@sha256:\w+)?")
"""Images whose tools are roughly those of any Linux machine."""
_FETCHES = re.compile(r"^[^#\n]*?\b(apt-get|apt|apk|pip3?|uv|uvx|curl|wget|npm|git clone)\b", re.MULTILINE)
_CHECK_SECONDS = 600.0
_HARMLESS = frozenset({"CMD", "ENTRYPOINT", "LABEL", "MAINTAINER", "EXPOSE", "STOPSIGNAL", "SHELL"})


@dataclass(frozen=True)
class HarborTask:
    """A task that can be played without docker."""

    id: str
    folder: Path
    instruction: str
    workdir: str
    """Where the agent begins: WORKDIR of the Dockerfile, /app without one."""
    copies: tuple[tuple[str, str], ...]
    """(path below environment/, absolute path in the image) of each COPY."""
    check_seconds: float
    """Time limit of the tests."""
    tags: dict[str, str] = field(hash=False)

    def stage(self, folder: Path) -> None:
        """Write the agent's first work directory.

        Raises:
            OSError: a file cannot be read.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for source, target in self.copies:
            place = folder / PurePosixPath(target).relative_to(self.workdir)
            path = self.folder / "environment" / source
            if path.is_dir():
                shutil.copytree(path, place, symlinks=True, dirs_exist_ok=True)
            else:
                place = place / path.name if place.is_dir() or target.endswith("/") else place
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, place)

    @property
    def solution(self) -> str | None:
        path = self.folder / "solution" / "solve.sh"
        return path.read_text("utf-8") if path.is_file() else None


def load_harbor_tasks(root: str | Path) -> tuple[dict[str, HarborTask], list[Refusal]]:
    """(tasks by the name of their folder, tasks that cannot be played without docker), in order of the folders.

    Args:
        root: the folder above those of the tasks, or one task.

    Raises:
        InputError: there is no task at all, or two have one name.
    """
    root = Path(root)
    marks = [path for name in ("task.toml", "task.yaml") for path in (*root.glob(name), *root.glob(f"*/{name}"))]
    found: dict[str, HarborTask] = {}
    refused: list[Refusal] = []
    for path in sorted(set(marks)):
        try:
            found[path.parent.resolve().name] = _read(path)
        except (ValueError, OSError) as error:
            refused.append(Refusal(place=str(path.parent), reason=str(error)))
    if not marks:
        raise InputError(f"{root} holds no folder with a task.toml; give the folder above those of the tasks")
    return found, refused


def _read(path: Path) -> HarborTask:
    """Raises:
    ValueError: the task cannot be played here, or a file of it is damaged.
    """
    folder = path.parent
    if path.name == "task.yaml":
        raise ValueError(
            "the layout of Terminal-Bench 1 runs its tests with pytest in the task's image; convert the task with "
            "`harbor tasks migrate`, or run it with docker"
        )
    try:
        settings = tomllib.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"task.toml: {error}") from error
    _require_plain(settings, folder)
    instruction = folder / "instruction.md"
    if not instruction.is_file() or not instruction.read_text("utf-8").strip():
        raise ValueError("it has no instruction.md")
    tests = folder / "tests" / "test.sh"
    if not tests.is_file():
        raise ValueError("it has no tests/test.sh")
    if fetched := _FETCHES.search(tests.read_text("utf-8")):
        raise ValueError(
            f"tests/test.sh fetches packages ({fetched[1]}), and the sandbox has no network; run it with docker"
        )
    workdir, copies = _dockerfile(folder / "environment")
    facts = _table(settings, "metadata")
    tags = {name: str(facts[name]) for name in ("difficulty", "category") if facts.get(name)}
    text = instruction.read_text("utf-8").strip()
    return HarborTask(folder.resolve().name, folder, text, workdir, copies, _check_seconds(settings), tags)


def _check_seconds(settings: dict[str, Any]) -> float:
    """Raises:
    ValueError: it is no such number.
    """
    seconds = _table(settings, "verifier").get("timeout_sec", _CHECK_SECONDS)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        raise ValueError(f"task.toml: timeout_sec of the verifier is {seconds!r}; give seconds")
    return float(seconds)


def _table(settings: dict[str, Any], name: str) -> dict[str, Any]:
    found = settings.get(name)
    return found if isinstance(found, dict) else {}


def _require_plain(settings: dict[str, Any], folder: Path) -> None:
    wanted = _table(settings, "environment")
    if settings.get("steps"):
        raise ValueError("it has several steps; run it with Harbor and docker")
    if wanted.get("docker_image"):
        raise ValueError(f"it needs the image {wanted['docker_image']}; run it with docker")
    for name in ("docker-compose.yaml", "docker-compose.yml"):
        if (folder / "environment" / name).is_file():
            raise ValueError(f"it needs several containers (environment/{name}); run it with docker")
    if wanted.get("mcp_servers"):
        raise ValueError("it needs MCP servers; run it with Harbor and docker")
    if any(_table(_table(settings, name), "env") for name in ("environment", "verifier")):
        raise ValueError("it sets environment variables (env in task.toml); run it with Harbor and docker")
    if wanted.get("gpus"):
        raise ValueError("it needs a GPU")
    if str(wanted.get("os", "linux")).lower() != "linux":
        raise ValueError(f"it needs {wanted['os']}")


def _dockerfile(folder: Path) -> tuple[str, tuple[tuple[str, str], ...]]:
    """(WORKDIR, copies)

    Raises:
        ValueError: the image is more than a common base with copied files.
    """
    path, workdir, copies = folder / "Dockerfile", "/app", list[tuple[str, str]]()
    if not path.is_file():
        return workdir, ()
    for line in _instructions(path.read_text("utf-8")):
        word, _, rest = line.partition(" ")
        word, rest = word.upper(), rest.strip()
        if word == "FROM":
            if not _BASE.fullmatch(rest):
                raise ValueError(f"it needs the image {rest}; run it with docker")
        elif word == "WORKDIR":
            workdir = str(PurePosixPath("/") / workdir / rest)
        elif word == "COPY" and not rest.startswith(("--", "[")) and len(rest.split()) >= 2:
            *sources, target = rest.split()
            place = str(PurePosixPath(workdir) / target) + ("/" if target.endswith("/") or len(sources) > 1 else "")
            copies += [(source, place) for source in sources]
        elif word not in _HARMLESS:
            raise ValueError(f"its image is built by `{line[:60]}`; run it with docker")
    for source, target in copies:
        inside = (folder / source).resolve()
        if not inside.is_relative_to(folder.resolve()) or not inside.exists():
            raise ValueError(f"its Dockerfile copies {source}, which is not in environment/")
        if not PurePosixPath(target).is_relative_to(workdir):
            raise ValueError(f"its Dockerfile copies files to {target}, outside the work directory; run it with docker")
    return workdir, tuple(copies)


def _instructions(text: str) -> list[str]:
    joined = re.sub(r"\\\n", " ", text)
    lines = (" ".join(line.split()) for line in joined.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def commands_of(script: str, is_whole: Callable[[str], bool]) -> list[str]:
    """A script as the commands of an expert: parts between empty lines, joined until each is a whole command.

    Args:
        is_whole: whether a text is a complete command.
    """
    body = re.sub(r"\A#!.*\n", "", script)
    found, pending = list[str](), ""
    for part in re.split(r"\n\s*\n", body):
        pending = f"{pending}\n\n{part}" if pending else part.strip("\n")
        if pending.strip() and is_whole(pending):
            found.append(pending.strip("\n"))
            pending = ""
    return [*found, *([pending.strip("\n")] if pending.strip() else [])]


def is_whole_command(text: str) -> bool:
    """Whether bash would run this and not wait for more. It is only parsed.

    Raises:
        InputError: there is no bash.
    """
    try:
        done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, timeout=10)  # noqa: S607
    except FileNotFoundError as error:
        raise InputError("reading a solve.sh needs bash; install it") from error
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0 and "here-document" not in done.stderr
