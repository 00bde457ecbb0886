"""Run by the sandbox's Python: pytest on the files named in ``asked.json``, and the outcome of each test.

It lies in a folder of its own, so that no file of the agent takes the place of pytest. Nothing is written unless pytest
comes to its end.
"""

from __future__ import annotations

import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120


class Outcomes:
    """Pytest's own reports, one outcome a test: the worst of its setup, call and teardown."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    def pytest_runtest_logreport(self, report) -> None:  # type: ignore[no-untyped-def]
        outcome = report.outcome
        if outcome == "skipped" and hasattr(report, "wasxfail"):
            outcome = "xfailed"
        if report.when == "call" or outcome in ("failed", "skipped", "xfailed"):
            if report.when == "teardown" and outcome != "failed":
                return
            self.found[report.nodeid] = outcome if report.when == "call" or outcome != "failed" else "error"


def main() -> None:
    import pytest

    asked = json.load(open(os.path.join(HERE, "asked.json")))  # noqa: PTH118, PTH123, SIM115
    sys.path[0] = os.getcwd()  # noqa: PTH109 - as `python -m pytest` does
    outcomes = Outcomes()
    options = ["-q", "-p", "no:cacheprovider", f"--rootdir={os.getcwd()}"]  # noqa: PTH109
    code = pytest.main([*options, *asked["files"], HERE], plugins=[outcomes])
    with open(os.path.join(HERE, asked["report"]), "w") as file:  # noqa: PTH118, PTH123
        json.dump({"code": int(code), "outcomes": outcomes.found}, file)


if __name__ == "__main__":
    main()
