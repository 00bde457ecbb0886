"""The command line: which subcommands there are, and how errors end it.

Progress goes to stderr, results to stdout.

Exit codes: 0 done; 2 input or options cannot be used; 3 nothing to train on; 4 the disk refused; 5 imported, but
for records that could not be read; 6 the sandbox does not hold; 130 interrupted (what is finished is kept; go on with
--resume).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pivotrl import plugins
from pivotrl.cli import stage_commands, tables, view_commands
from pivotrl.cli.arguments import parse
from pivotrl.cli.live_progress import Notices, errors
from pivotrl.protocols import InputError, NoPivots
from pivotrl.protocols.observing import told_notices

COMMANDS: dict[str, Callable[..., None]] = {
    "run": stage_commands.run,
    "read": stage_commands.read,
    "profile": stage_commands.profile,
    "select": stage_commands.select,
    "train": stage_commands.train,
    "evaluate": stage_commands.evaluate,
    "report": view_commands.report,
    "export": view_commands.export,
    "check": view_commands.check,
    "doctor": view_commands.doctor,
    "show": view_commands.show,
    "list": view_commands.list_plugins,
}


@contextmanager
def guarded(go_on: str = "the same command and --resume") -> Iterator[None]:
    """Inside, what a user can mend ends the process with one clear line and an exit code, never a traceback.

    Args:
        go_on: what continues an interrupted run.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with told_notices(Notices()):
            yield
    except NoPivots as error:
        _fail(str(error), 3)
    except InputError as error:
        _fail(str(error), 2)
    except KeyboardInterrupt:
        # From here on a second Ctrl-C ends the process at once; every finished record is on disk already.
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:  # as whoever started a background job wants it
                signal.signal(number, signal.SIG_DFL)
        _fail(f"interrupted; everything finished is kept. Go on with {go_on}", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader of our output has gone
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        reason = f"{error.strerror or error}{where}"
        _fail(f"{reason}; what was finished is kept. Free space or mend the path, then go on with {go_on}", 4)
    except ValueError as error:
        _fail(str(error), 2)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the ``pivotrl`` command."""
    if "" not in sys.path:  # plugins of the user's own, after everything that is installed
        sys.path.append(str(Path.cwd()))
    given = sys.argv[1:] if arguments is None else arguments
    with guarded("the same command and --resume" if list(given[:1]) in (["run"], ["read"]) else "the same command"):
        if given and not given[0].startswith("-") and given[0] not in COMMANDS:
            raise InputError(plugins.unknown(f"no command called {given[0]!r}", given[0], COMMANDS))
        parse(COMMANDS, arguments)()


def _fail(message: str, code: int) -> None:
    errors.print(f"[bold red]pivotrl:[/] {tables.plain(message)}", soft_wrap=True)
    raise SystemExit(code)
