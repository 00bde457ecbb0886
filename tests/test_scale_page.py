"""docs/scale.md: its example runs, and torchrun knows the options that it gives."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "scale.md").read_text().replace("\\\n", " ")
LINES = re.findall(r"^    ((?:torchrun|pivotrl) .*)$", TEXT, re.MULTILINE)
EXAMPLE = [line for line in LINES if "runs/errands" in line]


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("torchrun")], ids=lambda line: line[:60])
def test_torchrun_knows_the_options(line):
    given = get_args_parser().parse_args(shlex.split(line)[1:])
    assert given.module and given.training_script == "pivotrl.cli"


@pytest.mark.slow
def test_the_example_runs(tmp_path):
    assert len(EXAMPLE) == 5
    for line in EXAMPLE:
        program, *words = shlex.split(line.replace("runs/errands", str(tmp_path / "errands")))
        module = "torch.distributed.run" if program == "torchrun" else "pivotrl.cli"
        done = subprocess.run([sys.executable, "-m", module, *words], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
    assert (tmp_path / "errands" / "train.manifest.json").is_file()
    assert list((tmp_path / "errands" / "evaluations").glob("after*"))
