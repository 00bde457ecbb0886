"""An instance's repository from a local clone, as the agent may see it, and the files that its tests need.

The agent gets the files of the base commit as a repository with a single commit: a clone would hold the solution in its
later history. Test files come back from the row before the tests run, whatever became of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from pivotrl.environments.swe.rows import Instance
from pivotrl.protocols import InputError

GUARDED = (
    "conftest.py",
    "pytest.ini",
    "tox.ini",
    "setup.cfg",
    "pyproject.toml",
    "sitecustomize.py",
    "usercustomize.py",
)
"""Names of files that decide how tests run. They are put back too, unless the gold patch changes them."""
PACKAGES = ".packages"
_VERSION = 1
_GIT = ("git", "-c", "core.hooksPath=/dev/null", "-c", "core.autocrlf=false", "-c", "safe.directory=*")
_AUTHOR = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "pivotrl"), ("EMAIL", "none"), ("DATE", "2000-01-01T00:00:00Z"))
}


def prepared(instance: Instance, clones: Path, packages: Path | None, folder: str | None) -> Path:
    """The folder of an instance, from the cache or made now: ``files``, what the agent finds; ``check``, what is put
    over its files before the tests run.

    Raises:
        InputError: there is no such clone or commit, a patch does not apply, or the cache cannot be written.
    """
    source = _clone(instance, clones)
    commit = _commit(instance, source)
    cache = Path(os.environ.get("PIVOTRL_CACHE") or Path.home() / ".cache" / "pivotrl")
    key = hashlib.sha256(repr((_VERSION, instance, commit, str(source.resolve()), str(packages))).encode()).hexdigest()
    place = Path(folder or cache / "swe") / f"{_safe(instance.id)}-{key[:12]}"
    if (place / "check").is_dir() and commit is not None:
        return place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=place.parent) as scratch:
            made = Path(scratch, "made")
            _fill(instance, source, commit, made)
            if packages is not None:
                shutil.copytree(packages, made / "files" / PACKAGES, symlinks=True)
            if commit is None and place.is_dir():  # a folder without commits may have changed
                shutil.rmtree(place)
            with contextlib.suppress(OSError):  # another process was faster; its folder is the same
                made.rename(place)
    except OSError as error:
        raise InputError(f"{place.parent}: {instance.id} cannot be prepared ({error})") from error
    return place


def is_guarded(path: str, instance: Instance) -> bool:
    return path.rpartition("/")[2] in GUARDED and f"b/{path}\n" not in instance.gold


def patch_of(files: Path, now: Path) -> str:
    """What became of a prepared repository, as a patch with binary files. ``now`` holds its files; its ``.git`` is
    replaced, because whoever changed the files may have changed that as well.

    Raises:
        UnicodeDecodeError: the patch is no UTF-8, so JSON cannot hold it.
        InputError: git fails.
    """
    shutil.rmtree(now / ".git", ignore_errors=True)
    (now / ".git").unlink(missing_ok=True)
    shutil.copytree(files / ".git", now / ".git")
    added = _git(now, "add", "--all")
    words = ("diff", "--cached", "--no-color", "--no-ext-diff", "--no-textconv", "--binary", "HEAD")
    done = _git(now, *words, "--", ".", f":(exclude){PACKAGES}")
    for each in (added, done):
        if each.returncode:
            raise InputError(f"git cannot tell what changed: {_last(each)}")
    return done.stdout.decode()


def _safe(name: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in name)[:80]


def _clone(instance: Instance, clones: Path) -> Path:
    name = instance.repo.rpartition("/")[2]
    names = (instance.id, instance.repo.replace("/", "__"), instance.repo, name)
    for candidate in dict.fromkeys(names):
        if ".." not in candidate and (clones / candidate).is_dir():
            return clones / candidate
    raise InputError(
        f"{instance.id}: there is no clone of {instance.repo} in {clones}; expected one of the folders "
        f"{', '.join(dict.fromkeys(names))}: git clone https://github.com/{instance.repo} {clones / names[1]}"
    )


def _commit(instance: Instance, source: Path) -> str | None:
    """The commit's full name; None for a folder that is no repository of its own."""
    if not (source / ".git").exists() and not (source / "HEAD").is_file():
        return None
    wanted = instance.base_commit or "HEAD"
    if wanted.startswith("-"):
        raise InputError(f"{instance.id}: {wanted!r} is not the name of a commit")
    done = _git(source, "rev-parse", "--verify", "--quiet", f"{wanted}^{{commit}}")
    if done.returncode:
        raise InputError(f"{instance.id}: {source} has no commit {wanted}; fetch it: git -C {source} fetch --all")
    return done.stdout.decode().strip()


def _fill(instance: Instance, source: Path, commit: str | None, made: Path) -> None:
    files, check = made / "files", made / "check"
    check.mkdir(parents=True)
    if commit is None:
        shutil.copytree(source, files, symlinks=True)
    else:
        done = _git(source, "archive", "--format=tar", commit)
        if done.returncode:
            raise InputError(f"{instance.id}: {source}: {_last(done)}")
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            archive.extractall(files, filter="data")
    _git(files, "init", "--quiet")
    right = made / "right"
    shutil.copytree(files, right, symlinks=True)
    if instance.bug:
        _apply(instance, files, instance.bug, "patch")
    if instance.test_patch:
        _apply(instance, right, instance.test_patch, "test_patch")
    tests = {*instance.test_files, *_touched(instance, right, instance.test_patch)}
    for path in sorted({*tests, *_guarded_files(right, instance)}):
        if not _is_inside(right, path):
            continue
        (check / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(right / path, check / path)
    if instance.bug:  # the failing tests of SWE-smith lie in the repository itself
        for path in {name.partition("::")[0] for name in instance.fail_to_pass}:
            if _is_inside(files, path):
                (files / path).unlink()
    shutil.rmtree(right)
    (files / ".git" / "info").mkdir(exist_ok=True)
    (files / ".git" / "info" / "exclude").write_text(f"/{PACKAGES}\n", "utf-8")
    for words in (("add", "--all", "--force", "."), ("commit", "--quiet", "--no-verify", "--message", "base")):
        done = _git(files, *words)
        if done.returncode:
            raise InputError(f"{instance.id}: git {words[0]} fails: {_last(done)}")


def _guarded_files(tree: Path, instance: Instance) -> list[str]:
    found = (path.relative_to(tree).as_posix() for name in GUARDED for path in tree.rglob(name))
    return [path for path in found if not path.startswith(".git/") and is_guarded(path, instance)]


def _is_inside(tree: Path, path: str) -> bool:
    """Whether there is a regular file at the path, without links on the way."""
    place = tree / path
    return place.is_file() and place.resolve() == tree.resolve() / path


def _apply(instance: Instance, tree: Path, patch: str, name: str) -> None:
    done = _git(tree, "apply", "--whitespace=nowarn", "-", given=patch)
    if done.returncode:
        raise InputError(f"{instance.id}: its {name} does not apply to the repository: {_last(done)}")


def _touched(instance: Instance, tree: Path, patch: str) -> list[str]:
    """Paths that a patch changes or makes."""
    if not patch:
        return []
    done = _git(tree, "apply", "--numstat", "-z", "-R", "-", given=patch)
    return [line.split("\t")[-1] for line in done.stdout.decode(errors="replace").split("\0") if "\t" in line]


def _last(done: subprocess.CompletedProcess[bytes]) -> str:
    return done.stderr.decode(errors="replace").strip().rpartition("\n")[2][:300]


def _git(folder: Path, *words: str, given: str = "") -> subprocess.CompletedProcess[bytes]:
    """Run git on files of others: none of the user's settings, no hooks, no questions, no network."""
    alone = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}
    alone |= {"GIT_CEILING_DIRECTORIES": str(folder.resolve().parent), "GIT_ALLOW_PROTOCOL": "none", "LC_ALL": "C"}
    try:
        return subprocess.run(  # noqa: S603 - fixed words; names of commits are checked
            [*_GIT, "-C", str(folder), *words],
            input=given.encode(),
            capture_output=True,
            check=False,
            env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": "/nonexistent", **alone, **_AUTHOR},
        )
    except FileNotFoundError as error:
        raise InputError("rows of SWE-bench need git: apt-get install git") from error
