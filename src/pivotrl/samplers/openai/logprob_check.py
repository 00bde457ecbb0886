"""Whether a server gives log-probabilities, and of which distribution: the model's own, or the one sampled from."""

from __future__ import annotations

from pivotrl.samplers.openai.answers import Choice
from pivotrl.samplers.openai.probing import Finding, Probing, asked, one

_NUM_DRAWS, _COOL = 6, 0.5
_TELLING = 0.02
"""Nats. A token that both distributions find as likely tells nothing; rounding and batches move it less."""
_ASK = "Invent a name for a planet. Answer with the name alone."


def check_logprobs(choice: Choice) -> Finding:
    """The reader has made unknown what is positive or no number."""
    values, ids = choice.logprobs_T, choice.token_ids_T
    if values is None:
        return Finding("log-probs", "warning", "it gives no log-probabilities; they stay unknown")
    if any(value != value for value in values):
        return Finding("log-probs", "warning", "some log-probabilities are missing, no numbers or positive: unknown")
    if ids is not None and len(values) != len(ids):
        return Finding("log-probs", "warning", f"{len(values)} log-probabilities for {len(ids)} tokens: unknown")
    if len(values) >= 2 and not any(values):
        return Finding("log-probs", "warning", "all log-probabilities are 0, which no sample at temperature 1 has")
    return Finding("log-probs", "ok", "one log-probability a token, none above 0")


def check_mode(probing: Probing) -> Finding:
    """First tokens drawn at two temperatures: where they are the same, so are their raw log-probabilities."""
    warm, cool = (_first_tokens(probing, temperature) for temperature in (1.0, _COOL))
    common = warm.keys() & cool.keys()
    if not common:
        return Finding("log-prob mode", "warning", "unknown: no token was drawn both at temperature 1 and at 0.5")
    differs = max(abs(warm[token] - cool[token]) for token in common) > _TELLING
    if not differs and all(warm[token] > -_TELLING for token in common):
        return Finding("log-prob mode", "warning", "unknown: the tokens that were drawn are certain at any temperature")
    if differs == (probing.sampler.logprobs == "processed"):
        return Finding("log-prob mode", "ok", f"log-probabilities are {probing.sampler.logprobs}, as expected")
    told, of = ("processed", "the distribution sampled from") if differs else ("raw", "the model alone")
    effect = "keeps them at every temperature" if differs else "keeps them at temperature 1 alone"
    return Finding("log-prob mode", "warning", f"they are {told}, those of {of}: logprobs='{told}' {effect}")


def _first_tokens(probing: Probing, temperature: float) -> dict[int, float]:
    """token id -> log-probability, of the first tokens of a few samples"""
    turn = asked(_ASK)
    bodies = [
        probing.body(turn, seed=200 + number, temperature=temperature, max_tokens=1) for number in range(_NUM_DRAWS)
    ]
    samples = [one(answer) for answer in probing.ask(bodies)]
    return {
        sample.token_ids_T[0]: sample.logprobs_T[0]
        for sample in samples
        if sample and sample.token_ids_T and sample.logprobs_T and sample.logprobs_T[0] == sample.logprobs_T[0]
    }
