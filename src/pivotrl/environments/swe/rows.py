"""Rows of SWE-bench, SWE-Gym, SWE-rebench, SWE-smith and NeMo Gym as one kind of instance."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pivotrl.protocols import InputError
from pivotrl.reading.fields import as_object, json_text, member, optional
from pivotrl.reading.sources import entries
from pivotrl.records import Record


class Instance(Record):
    """An issue in a repository, and the tests that tell whether it is solved."""

    id: str
    repo: str
    base_commit: str | None
    """None for SWE-smith, whose rows mean the repository as it is."""
    issue: str
    gold: str
    """The patch that solves the issue."""
    bug: str
    """The patch that brings the defect in; empty where the repository at the commit has it."""
    test_patch: str
    fail_to_pass: tuple[str, ...]
    pass_to_pass: tuple[str, ...]
    image: str | None
    """The container image that the row names."""

    @property
    def test_files(self) -> tuple[str, ...]:
        """Paths of the files with these tests."""
        names = (name.partition("::")[0] for name in (*self.fail_to_pass, *self.pass_to_pass))
        return tuple(dict.fromkeys(names))


def load_instances(path: Path) -> list[Instance]:
    """The rows of a JSON, JSONL or Parquet file.

    A row is one of SWE-bench (with ``base_commit`` and ``test_patch``; its lists of tests may be JSON texts), which
    SWE-Gym, SWE-rebench and others share; one of SWE-smith (without ``base_commit``; its ``patch`` brings the defect
    in); or one of NeMo Gym, which holds such a row as JSON in ``responses_create_params.metadata.instance_dict``.

    Raises:
        InputError: the file cannot be read, or a row lacks something; the text says which and what.
    """
    found: dict[str, Instance] = {}
    for entry in entries(path):
        try:
            instance = _instance(as_object(entry.load()))
        except ValueError as error:
            raise InputError(f"{entry.place} is not a row of SWE-bench or its kin: {error}") from error
        if instance.id in found:
            raise InputError(f"{entry.place}: there is another row with the instance_id {instance.id!r}")
        found[instance.id] = instance
    return list(found.values())


def _instance(row: dict[str, Any]) -> Instance:
    asked = optional(row, "responses_create_params", dict)
    if asked is not None:
        metadata = member(asked, "metadata", dict)
        return _instance(as_object(json_text("instance_dict", member(metadata, "instance_dict", str))))
    patch, test_patch = member(row, "patch", str), optional(row, "test_patch", str) or ""
    base_commit = optional(row, "base_commit", str)
    if base_commit is None and test_patch:
        raise ValueError("base_commit is missing")
    is_bug = base_commit is None
    fail_to_pass = _tests(row, "FAIL_TO_PASS")
    if not fail_to_pass:
        raise ValueError("FAIL_TO_PASS is empty, so nothing would tell a solution")
    return Instance(
        id=member(row, "instance_id", str),
        repo=member(row, "repo", str),
        base_commit=base_commit,
        issue=member(row, "problem_statement", str),
        gold="" if is_bug else patch,
        bug=patch if is_bug else "",
        test_patch=test_patch,
        fail_to_pass=fail_to_pass,
        pass_to_pass=_tests(row, "PASS_TO_PASS"),
        image=optional(row, "image_name", str) or optional(row, "docker_image", str),
    )


def _tests(row: dict[str, Any], name: str) -> tuple[str, ...]:
    """A list of tests, as such or as text: JSON, or a Python list as in SWE-bench Pro."""
    value = row.get(name, row.get(name.lower()))
    if isinstance(value, str):
        try:
            value = json_text(name, value)
        except ValueError:
            try:
                value = ast.literal_eval(value)
            except (ValueError, SyntaxError):
                raise ValueError(f"{name} is text that is no list") from None
    if not isinstance(value, Sequence) or not all(isinstance(test, str) for test in value):
        raise ValueError(f"{name} is missing or no list of texts")
    return tuple(value)
