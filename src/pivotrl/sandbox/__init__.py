"""Running model-written code: one interface, several backends, never in this process and never without a sandbox.

    with open_sandbox().open(Path("environment")) as session:
        finished = session.run(["make", "test"])
        session.changes()

docs/sandbox.md says what it promises and what it does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pivotrl.protocols import InputError
from pivotrl.sandbox.interface import Finished, Limits, Sandbox, SandboxFault, Session

__all__ = ["BACKENDS", "Finished", "Limits", "Sandbox", "SandboxFault", "Session", "open_sandbox"]
BACKENDS = ("bwrap", "gvisor", "docker")


def open_sandbox(
    backend: str = "bwrap",
    *,
    require_cgroup: bool = False,
    work_dir: str = "/work",
    links: Mapping[str, str] = MappingProxyType({}),
) -> Sandbox:
    """A sandbox that passed its self-test: its first command asks the kernel which restrictions apply.

    Args:
        backend: ``bwrap``, ``gvisor``, or ``docker`` or ``docker:IMAGE``.
        require_cgroup: refuse if no control group bounds memory and processes.
        work_dir: where commands find their files, for instance the path that the recorded agent saw.
        links: further paths that lead into the work directory, such as ``{"/tests": "/app/tests"}``; ``bwrap`` alone.

    Raises:
        InputError: no such backend, it cannot be had here, or it is weaker than required; the text says what is
            missing and how to get it. No other backend is taken in its place.
    """
    for path in (work_dir, *links):
        if path != "/" + path.strip("/") or path.split("/")[1] in {"", *_TAKEN} or ".." in path.split("/"):
            raise InputError(f"work_dir {path!r}: give an absolute path outside the system's own directories")
    if links and backend != "bwrap":
        raise InputError(f"the sandbox {backend!r} cannot have {', '.join(links)}; take bwrap")
    name, _, image = backend.partition(":")
    if name not in BACKENDS or (image and name != "docker"):
        raise InputError(f"no sandbox called {backend!r}; there are {', '.join(BACKENDS)}")
    if name == "docker":
        from pivotrl.sandbox.docker import DockerSandbox

        return DockerSandbox(image or "python:3.11-slim", work_dir)
    from pivotrl.sandbox.local import LocalSandbox

    return LocalSandbox(name, require_cgroup=require_cgroup, work_dir=work_dir, links=links)


_TAKEN = {"bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "sbin", "sys", "tmp", "usr"}
