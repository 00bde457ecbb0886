"""The command line: its subcommands, and how errors end it.

Progress goes to stderr, results to stdout.

Exit codes: 0 done; 2 unusable input or options; 3 nothing to train on; 4 disk error; 5 imported, but some records could
not be read; 6 the sandbox does not hold; 7 a guard rail ended the training; 8 another process of the same
training is gone; 1 the run that was watched stopped unfinished or is damaged; 130 interrupted (finished work is kept;
continue with the same command, and --resume for run and read).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pivotrl import plugins
from pivotrl.cli import (
    bench_command,
    compare_command,
    plan_command,
    report_command,
    serve_command,
    server_command,
    stage_commands,
    tables,
    view_commands,
    watch_command,
)
from pivotrl.cli.arguments import parse
from pivotrl.cli.live_progress import Notices, errors
from pivotrl.cli.processes import in_company, quiet_where_placed, run_here_or_placed
from pivotrl.protocols import Collapsed, InputError, NoPivots, ProcessLost
from pivotrl.protocols.observing import told_notices
from pivotrl.storage.record_files import package_versions

COMMANDS: dict[str, Callable[..., None]] = {
    "run": stage_commands.run,
    "read": stage_commands.read,
    "prompts": view_commands.prompts,
    "plan": plan_command.plan,
    "profile": stage_commands.profile,
    "select": stage_commands.select,
    "train": stage_commands.train,
    "evaluate": stage_commands.evaluate,
    "compare": compare_command.compare,
    "bench": bench_command.bench,
    "report": report_command.report,
    "export": view_commands.export,
    "serve": serve_command.serve,
    "check": view_commands.check,
    "check-server": server_command.check_server,
    "doctor": view_commands.doctor,
    "show": view_commands.show,
    "status": view_commands.status,
    "watch": watch_command.watch,
    "waver": view_commands.waver,
    "view": view_commands.view,
    "list": view_commands.list_plugins,
}


@contextmanager
def guarded(go_on: str = "the same command and --resume") -> Iterator[None]:
    """Turn errors that a user can fix into one clear line and an exit code, never a traceback.

    Args:
        go_on: how to continue an interrupted run.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with told_notices(Notices()):
            yield
    except NoPivots as error:
        _fail(str(error), 3)
    except Collapsed as error:
        _fail(str(error), 7)
    except InputError as error:
        _fail(str(error), 2)
    except ProcessLost as error:
        _fail(str(error), 8)
    except KeyboardInterrupt:
        # A second Ctrl-C now ends the process at once; every finished record is already on disk.
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:  # a background job may ignore them on purpose
                signal.signal(number, signal.SIG_DFL)
        _fail(f"interrupted; everything finished is kept. Continue with {go_on}", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader of our output has closed it
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        reason = f"{error.strerror or error}{where}"
        _fail(f"{reason}; finished work is kept. Free space or fix the path, then continue with {go_on}", 4)
    except ValueError as error:
        _fail(str(error), 2)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the ``pivotrl`` command."""
    if "" not in sys.path:  # the user's own plugins, after everything installed
        sys.path.append(str(Path.cwd()))
    given = sys.argv[1:] if arguments is None else arguments
    with guarded("the same command and --resume" if list(given[:1]) in (["run"], ["read"]) else "the same command"):
        if list(given) in (["--version"], ["-V"]):
            print(f"pivotrl {package_versions().get('pivotrl', 'unknown')}")
            return
        if given and not given[0].startswith("-") and given[0] not in COMMANDS:
            raise InputError(plugins.unknown(f"no command called {given[0]!r}", given[0], COMMANDS))
        with in_company():
            with quiet_where_placed():
                command = parse(COMMANDS, arguments)
            run_here_or_placed(command, given)


def _fail(message: str, code: int) -> None:
    errors.print(f"[bold red]pivotrl:[/] {tables.plain(message)}", soft_wrap=True)
    raise SystemExit(code)
