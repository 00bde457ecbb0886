"""One thread per test process, so that tests neither crowd each other nor change with the machine."""

import os
import sys

import pytest

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # read when numpy and torch are loaded
    os.environ.setdefault(name, "1")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    if "torch" in sys.modules:  # tests that need no torch do not load it
        sys.modules["torch"].set_num_threads(1)
