"""A training takes its pivots from a profile, so it must be the profile of this policy, judged by this verifier and
sampled like this."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from pivotrl.judging.guarded import VerificationOptions
from pivotrl.options import options_dict
from pivotrl.profiling import ProfileOptions
from pivotrl.protocols import InputError
from pivotrl.records import Manifest
from pivotrl.runs.files import RunFiles
from pivotrl.runs.manifest import find_manifest
from pivotrl.runs.stage import policy_differences
from pivotrl.training import TrainingOptions, needs_pivots

Kind = Literal["policy", "prompts", "server", "verifier", "verification", "sampling"]
"""What a profile and a training may differ in: weights and their precision; tokenizer, template and stop tokens; the
server, or the place where the samples were made; the verifier, its options and its code; the limits of a verdict; how
actions are sampled."""

_SERVER = ("sampler", "model", "served", "choices", "extra", "samples_of", "samples_sha256", "notes")
_PROMPTS = (
    "tokenizer",
    "template",
    "renderer",
    "stop_ids",
    "turns_with_tools",
    "reasoning",
    "actions",
    "mode",
    "prompts",
)
"""How the names of such facts begin."""
_LIMITS = ("timeout_seconds", "memory_gib")
"""Options of a verification that can change verdicts."""


class Difference(NamedTuple):
    """One fact that differs."""

    kind: Kind
    words: str
    """``temperature: was 0.7, now 1.0``"""

    def __str__(self) -> str:
        return f"{self.kind}, {self.words}"


def profile_differences(
    files: RunFiles,
    training: TrainingOptions,
    verifier: str,
    code: Mapping[str, str],
    verification: VerificationOptions,
    acting: Mapping[str, Any] | None,
) -> list[Difference]:
    """How the run's profile differs from what this training would do; empty without a profile.

    A limit of tokens counts only if a sample of the profile would have come out otherwise under the other limit.

    Args:
        verifier: described (:func:`pivotrl.plugins.describing.describe`).
        code: of the verifier, as in the inputs of a manifest.
        acting: the policy, described for a manifest; None: not loaded yet, so it is not compared.
    """
    if find_manifest(files.directory, "profile") is None:
        return []
    profile = files.finished("profile")
    found = [Difference("verifier", told) for told in _changed(profile.options, {"verifier": verifier})]
    found += [Difference("verifier", told) for told in _changed({"code": _code(profile.inputs)}, {"code": _code(code)})]
    limits = {name: getattr(verification, name) for name in _LIMITS if name in profile.options}
    found += [Difference("verification", told) for told in _changed(profile.options, limits)]
    found += _sampled_differently(files, profile, training)
    for told in policy_differences(profile.policy, acting) if acting is not None else ():
        fact = told.removeprefix("policy, ")
        found.append(Difference(_kind(fact.partition(":")[0]), fact))
    return found


def refuse_profile(directory: Path, differences: Collection[Difference], allowed: Collection[Kind]) -> None:
    """
    Raises:
        InputError: a difference is of a kind that is not allowed.
    """
    refused = {difference.kind for difference in differences} - set(allowed)
    if not refused:
        return
    listed = "\n  ".join(map(str, differences))
    needed = " ".join(kind for kind in get_args(Kind) if kind in refused or kind in allowed)
    raise InputError(
        f"the profile of {directory} does not belong to this training:\n  {listed}\n"
        "Turns that are mixed in that profile may be too easy or impossible here. Make a profile in a run of its own, "
        f"train with --method lazy, which needs none, or accept it with --profile-may-differ-in {needed}"
    )


def require_same_sampling(profiling: ProfileOptions, training: TrainingOptions, allowed: Collection[Kind]) -> None:
    """Refuse before anything is sampled what :func:`refuse_profile` would refuse after the profile.

    Raises:
        InputError: a training that takes pivots samples otherwise than the profile.
    """
    method = training.load_method()
    if not (needs_pivots(method) and method.verifies) or "sampling" in allowed:
        return
    if differing := _changed(options_dict(profiling), _sampling(training)):
        raise InputError(
            "the profile would be sampled otherwise than the training (was: profile, now: training): "
            f"{'; '.join(differing)}. Give both the same options, or accept it with --profile-may-differ-in sampling"
        )


def _sampling(training: TrainingOptions) -> dict[str, Any]:
    return {"temperature": training.train_temperature, "top_p": 1.0, "top_k": None}


def _changed(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [f"{name}: was {was.get(name)!r}, now {value!r}" for name, value in now.items() if was.get(name) != value]


def _code(inputs: Mapping[str, str]) -> str | None:
    found = inputs.get("verifier code")
    return found[:12] if found else None


def _kind(fact: str) -> Kind:
    if fact in _SERVER:
        return "server"
    return "prompts" if fact.startswith(_PROMPTS) else "policy"


def _sampled_differently(files: RunFiles, profile: Manifest, training: TrainingOptions) -> list[Difference]:
    known = {name: value for name, value in _sampling(training).items() if name in profile.options}
    found = [Difference("sampling", told) for told in _changed(profile.options, known)]
    was, limit = profile.options.get("max_tokens"), training.train_max_tokens
    if not isinstance(was, int) or was == limit:
        return found
    groups = files.profiles()
    lengths = (len(completion.token_ids_T) for group in groups for completion in group.completions_G)
    touched = sum(group.num_cut_off for group in groups) if limit > was else sum(length > limit for length in lengths)
    if touched:
        told = f"max_tokens: was {was}, now {limit}, which would change {touched:,} of the profile's samples"
        found.append(Difference("sampling", told))
    return found
