"""One thread per test process, so that tests neither crowd each other nor change with the machine."""

import os
import shutil
import signal
import sys
import tempfile

import pytest

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # Started in the background of a script, or by a CI that ignores Ctrl-C: the tests of it send their own.
    signal.signal(signal.SIGINT, signal.default_int_handler)

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # read when numpy and torch are loaded
    os.environ.setdefault(name, "1")
# Read once in a process, when any test first imports Trackio, be it through another package.
os.environ["TRACKIO_DIR"] = tempfile.mkdtemp(prefix="pivotrl_trackio_")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Slow and GPU tests are skipped, and so counted, unless a run asks for some kind of test by its mark."""
    if not config.option.markexpr:
        for item in items:
            for mark, target in (("slow", "make test-slow"), ("gpu", "make test-gpu")):
                if mark in item.keywords:
                    item.add_marker(pytest.mark.skip(reason=f"{mark}: {target}"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    number = sum("bubblewrap" in str(report.longrepr) or "bwrap" in str(report.longrepr) for report in skipped)
    if number and not shutil.which("bwrap"):
        terminalreporter.write_line(
            f"{number} tests of the sandbox were skipped: install bubblewrap (apt-get install bubblewrap)", yellow=True
        )


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    if "torch" in sys.modules:  # tests that need no torch do not load it
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(autouse=True)
def signal_handlers():
    """The command line changes them for the rest of its process; the next test must not die of its own Ctrl-C."""
    known = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in known.items():
        signal.signal(number, handler)
