"""One thread per test process, so that tests neither crowd each other nor change with the machine."""

import os
import sys

import pytest

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # read when numpy and torch are loaded
    os.environ.setdefault(name, "1")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Slow and GPU tests are skipped, and so counted, unless a run asks for some kind of test by its mark."""
    if not config.option.markexpr:
        for item in items:
            for mark, target in (("slow", "make test-slow"), ("gpu", "make test-gpu")):
                if mark in item.keywords:
                    item.add_marker(pytest.mark.skip(reason=f"{mark}: {target}"))


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    if "torch" in sys.modules:  # tests that need no torch do not load it
        sys.modules["torch"].set_num_threads(1)
