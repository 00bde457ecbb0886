"""A training takes pivots from its own profile only, or says what may differ.

Run alone: python -m pytest tests/test_profile_identity.py
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pivotrl.judging.guarded import VerificationOptions
from pivotrl.runs.files import RunFiles
from pivotrl.runs.manifest import read_manifest, write_manifest
from pivotrl.stages.profile_identity import profile_differences
from pivotrl.training import TrainingOptions
from test_cli import call, refused
from test_pipeline import write_logs

SMALL = ("--num-steps", "2", "--turns-per-step", "4", "--group-size", "4", "--learning-rate", "1")
VERIFIER = """
from pivotrl.records import Verdict

def verify(turn, action):
    return Verdict.passed() if action == turn.expected_action else Verdict.failed("other")
"""


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "rule.py").write_text(VERIFIER)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert call("read", write_logs(tmp_path / "logs.jsonl", 8), "-o", tmp_path / "run") == 0
    made = ("--policy", "tabular", "--verifier", "rule:verify", "--num-samples", "8")
    assert call("profile", tmp_path / "run", *made) == 0
    assert call("select", tmp_path / "run") == 0
    capsys.readouterr()
    return tmp_path / "run"


DIFFERENT = {
    "policy": (("--policy", "tabular(seed=1)"), "policy, seed: was 0, now 1"),
    "verifier": (("--verifier", "exact"), "verifier: was 'rule:verify', now 'pivotrl.verifiers.exact:verify'"),
    "verification": (("--timeout-seconds", "3"), "verification, timeout_seconds: was 10.0, now 3.0"),
    "sampling": (("--train-temperature", "0.7"), "sampling, temperature: was 1.0, now 0.7"),
}  # fmt: skip


def test_each_kind_of_difference_is_refused_and_can_be_accepted(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind, (options, told) in DIFFERENT.items():
        said = refused(capsys, 2, "train", run, "--name", kind, *SMALL, *options)
        assert told in said and f"--profile-may-differ-in {kind}" in said
        assert not (run / f"trainings/{kind}.manifest.json").exists()
    everything = [option for options, _ in DIFFERENT.values() for option in options]
    said = refused(capsys, 2, "train", run, *SMALL, *everything, "--profile-may-differ-in", "verifier", "policy")
    assert all(told in said for _, told in DIFFERENT.values()), "all differences are listed, whatever is accepted"
    assert "--profile-may-differ-in policy verifier verification sampling" in said
    assert call("train", run, *SMALL, *everything, "--profile-may-differ-in", *DIFFERENT) == 0
    manifest = read_manifest(run / "train.manifest.json")
    assert len(manifest.counts["profile_differs_in"]) == 5, "the code of the verifier is a difference of its own"
    assert manifest.options["profile_may_differ_in"] == sorted(DIFFERENT)


def test_the_code_of_a_verifier_counts(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = read_manifest(run / "profile.manifest.json")
    write_manifest(
        run / "profile.manifest.json",
        manifest.model_copy(update={"inputs": {**manifest.inputs, "verifier code": "0" * 64}}),
    )
    assert "verifier, code: was '000000000000', now" in refused(capsys, 2, "train", run, *SMALL)


def test_a_limit_of_tokens_counts_only_if_it_would_have_changed_a_sample(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Actions of the tabular policy have one token each."""
    assert call("train", run, *SMALL, "--train-max-tokens", "99") == 0
    manifest = read_manifest(run / "profile.manifest.json")
    assert manifest.options["max_tokens"] == 256

    class Cut(RunFiles):
        def profiles(self):  # type: ignore[no-untyped-def]
            first, *others = super().profiles()
            longer = first.completions_G[0].model_copy(update={"finish_reason": "length", "token_ids_T": (1,) * 256})
            return [first.model_copy(update={"completions_G": (longer, *first.completions_G[1:])}), *others]

    def differing(files: RunFiles, limit: int) -> list[str]:
        options = TrainingOptions(train_max_tokens=limit)
        code = {"verifier code": manifest.inputs["verifier code"]}
        found = profile_differences(files, options, "rule:verify", code, VerificationOptions(), None)
        return [difference.words for difference in found]

    for limit in (255, 257):
        assert differing(RunFiles(run), limit) == []
        assert differing(Cut(run), limit) == [
            f"max_tokens: was 256, now {limit}, which would change 1 of the profile's samples"
        ]
    assert differing(Cut(run), 256) == []


def test_a_whole_run_is_refused_before_it_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs, out = write_logs(tmp_path / "logs.jsonl", 8), tmp_path / "run"
    given = ("--policy", "tabular", "--verifier", "exact", "--temperature", "0.7", *SMALL)
    told = refused(capsys, 2, "run", logs, "-o", out, *given)
    assert "temperature: was 0.7, now 1.0" in told and not (out / "profiles.jsonl").exists()
    assert call("run", logs, "-o", out, *given, "--profile-may-differ-in", "sampling") == 0
    assert json.loads((out / "train.manifest.json").read_text())["counts"]["profile_differs_in"]
    assert call("run", "-o", out, "--resume") == 0
