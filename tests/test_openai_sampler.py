"""The sampler of served models: every group is whole and right, or left out with a reason.

Run alone: python -m pytest tests/test_openai_sampler.py
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("httpx", reason="needs the extra 'judge'")
from transformers import AutoTokenizer

from fault_server import BREAKS, CHANGES, LOGPROB, TOKEN_CHANGES, FaultServer, prompt_of
from pivotrl import Action, Message, Trajectory, Turn, Verdict, cut, sample_groups
from pivotrl.evaluation import EvaluationOptions, evaluate_answers, evaluate_episodes, evaluate_turns
from pivotrl.evaluation.progress import evaluate_progress
from pivotrl.plugins.environments import make_checked
from pivotrl.profiling import ProfileOptions, profile
from pivotrl.protocols import InputError
from pivotrl.protocols.endpoint import Endpoint
from pivotrl.records import LostTry, SampleGroup, Sampling, Tool, TurnResult
from pivotrl.rendering import Renderer
from pivotrl.rollouts import lost_path
from pivotrl.runs.costs import money_of, tokens_of
from pivotrl.samplers.openai import Sampler, answers, asking, tokens
from pivotrl.samplers.openai.money import Prices, read_usage
from pivotrl.storage.record_files import RecordFile, decode_line, encode_line
from pivotrl.templates.api_messages import api_messages
from test_endpoint import direct as direct
from test_kills import guesses
from test_training import logs
from tiny import save_tiny_model

SAMPLING = Sampling(max_tokens=30, seed=3)
EVERY = (*CHANGES, *TOKEN_CHANGES, *BREAKS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def renderer(folder: Path) -> Renderer:
    return Renderer(AutoTokenizer.from_pretrained(folder))


def turns(number: int) -> list[Turn]:
    return cut(logs(number, 1))[0]


def served(server: FaultServer, folder: Path | None = None, **options: Any) -> Sampler:
    Endpoint("server", server.url).get("models")  # a busy machine may take longer than a request may to answer first
    options = {"deadline_seconds": 1.0, "max_tries": 3, "max_in_flight": 32, **options}
    return Sampler(base_url=server.url, model="m", tokenizer=str(folder) if folder else None, **options)


def has_digit(turn: Turn, action: Action) -> Verdict:
    return Verdict.passed() if action.content else Verdict.failed("empty")


def sampled(sampler: Sampler, asked: Sequence[Turn], num_samples: int = 4, batch: int = 50) -> list[SampleGroup]:
    found: list[SampleGroup] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for start in range(0, len(asked), batch):
            found += sample_groups(asked[start : start + batch], sampler, has_digit, num_samples, SAMPLING)
    return found


def wrong(server: FaultServer, groups: Sequence[SampleGroup], prompts: dict[str, str], num_samples: int) -> list[str]:
    """Turns whose group is neither left out with a reason nor exactly what was drawn there."""
    bad, taken = [], set[str]()
    for group in groups:
        if group.fault is not None:
            left_out = all(v.outcome == "no_verdict" and v.reason == group.fault for v in group.verdicts_G)
            is_right = left_out and all(completion.fault for completion in group.completions_G)
        else:
            texts = [completion.text for completion in group.completions_G]
            truths = [server.drawn.get(text) for text in texts]
            is_right = len(set(texts)) == num_samples == len(texts) and not taken & set(texts)
            taken |= set(texts)
            for completion, truth in zip(group.completions_G, truths, strict=True):
                logprobs = set(completion.logprobs_T)
                is_right &= truth is not None and truth.prompt == prompts[group.turn_id]
                is_right &= truth is not None and completion.token_ids_T in (truth.ids, ())
                is_right &= truth is not None and completion.finish_reason == truth.finish_reason
                is_right &= all(math.isnan(value) or value == LOGPROB for value in logprobs)
        if not is_right:
            bad.append(group.turn_id)
    return bad


def prompts_of(renderer: Renderer, asked: Sequence[Turn]) -> dict[str, str]:
    return {turn.id: prompt_of(list(renderer.prompt(turn))) for turn in asked}


@pytest.mark.parametrize(("choices", "number"), [("n", 340), ("single", 380)])
def test_no_group_is_wrong_at_forty_percent_faults(folder: Path, renderer: Renderer, choices: Any, number: int) -> None:
    asked = turns(number)
    with FaultServer(EVERY, 0.4, encode=renderer.encode_text, end_id=renderer.end_id) as server:
        groups = sampled(served(server, folder, choices=choices), asked, 6)
        assert wrong(server, groups, prompts_of(renderer, asked), 6) == []
        assert len(server.bodies) >= (2_000 if choices == "single" else 600)
        assert set(EVERY) == set(server.happened)
        whole = [group for group in groups if group.fault is None]
        assert len(whole) > len(groups) / 4
        assert any(c.finish_reason == "length" for g in whole for c in g.completions_G)


@pytest.mark.parametrize("fault", EVERY)
def test_a_fault_that_befalls_half_of_the_requests_makes_no_wrong_group(
    folder: Path, renderer: Renderer, fault: str
) -> None:
    asked = turns(12)
    with FaultServer([fault], 0.5, encode=renderer.encode_text, end_id=renderer.end_id) as server:
        groups = sampled(served(server, folder), asked)
        assert server.happened[fault]
        assert wrong(server, groups, prompts_of(renderer, asked), 4) == []
        assert any(group.fault is None for group in groups)


def naive_order(choices: Sequence[tuple[Any, answers.Choice]], num_asked: int) -> tuple[answers.Choice | None, ...]:
    found = [choice for _, choice in choices][:num_asked]
    return (*found, *[None] * (num_asked - len(found)))


TWINS: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "duplicate": (answers, "_by_index", naive_order),
    "token_lost": (tokens, "is_text_of", lambda *_: True),
    "refused_400": (asking.Asking, "_drop_bare_texts", lambda *_: None),
    "copied": (asking, "_is_improbable", lambda *_: False),
    "another_model": (asking.Asking, "_require_model", lambda *_: None),
    "logprobs_positive": (answers, "_ROUNDING", 1.0),  # type: ignore[dict-item]
    "empty": (tokens, "fault_of_tokens", lambda *_: None),
}


@pytest.mark.parametrize("fault", TWINS)
def test_without_its_check_the_fault_would_make_wrong_groups(
    folder: Path, renderer: Renderer, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, name, twin = TWINS[fault]
    monkeypatch.setattr(place, name, twin)
    monkeypatch.setattr("pivotrl.samplers.openai.fault_of_tokens", tokens.fault_of_tokens)
    if fault == "duplicate":  # two checks see it
        monkeypatch.setattr(asking, "_is_improbable", lambda *_: False)
    asked = turns(12)
    with FaultServer([fault], 0.5, encode=renderer.encode_text, end_id=renderer.end_id) as server:
        groups = sampled(served(server, folder), asked)
        taken = wrong(server, groups, prompts_of(renderer, asked), 4)
        if fault == "another_model":  # the tiny model is the same under any name
            assert server.happened[fault] and all(group.fault is None for group in groups)
        elif fault == "logprobs_positive":
            assert any(v == 0.0 for group in groups for c in group.completions_G for v in c.logprobs_T)
        elif fault == "refused_400":  # asked again without our fields, it gives texts that no ids vouch for
            assert len({bool(c.token_ids_T) for group in groups for c in group.completions_G if not c.fault}) == 2
        else:
            assert taken


def test_a_prompt_that_the_server_reads_otherwise_is_refused_by_its_first_token(
    folder: Path, renderer: Renderer
) -> None:
    with FaultServer(encode=renderer.encode_text, end_id=renderer.end_id, drift=True) as server:
        sampler = served(server, folder)
        with pytest.raises(InputError, match=r"log0#1: the server reads another prompt.*token 1 is 1 '<.im_start.>'"):
            sampled(sampler, turns(1))


@pytest.mark.parametrize("choices", ["n", "single"])
def test_replicas_with_one_seed_are_refused(folder: Path, renderer: Renderer, choices: Any) -> None:
    told = pytest.raises(InputError, match="the same long text at temperature 1.*fixed seed")
    with FaultServer(encode=renderer.encode_text, end_id=renderer.end_id, fixed_seed=True) as server, told:
        sampled(served(server, folder, choices=choices), turns(1))


def test_equal_short_samples_are_samples(folder: Path, renderer: Renderer) -> None:
    options: dict[str, Any] = {"encode": renderer.encode_text, "end_id": renderer.end_id}
    with FaultServer(speak=lambda prompt, serial: "go", **options) as server:
        (group,) = sampled(served(server, folder), turns(1), 8)
    assert group.fault is None and [c.text for c in group.completions_G] == ["go"] * 8


def test_seeds_differ_and_depend_on_turn_and_sample_alone(folder: Path, renderer: Renderer) -> None:
    with FaultServer(encode=renderer.encode_text, end_id=renderer.end_id) as server:
        sampler = served(server, folder, choices="single")
        sampled(sampler, turns(5), 4)
        seeds = {json.dumps(body["prompt"]): set[int]() for body in server.bodies}
        for body in server.bodies:
            seeds[json.dumps(body["prompt"])].add(body["seed"])
        assert len(set().union(*seeds.values())) == 20 and "n" not in server.bodies[0]
        server.bodies.clear()
        list(sampler.sample(turns(5)[2:3], 2, SAMPLING, first=2))
        assert {body["seed"] for body in server.bodies} < seeds[json.dumps(server.bodies[0]["prompt"])]
        server.bodies.clear()
        sampled(served(server, folder), turns(2), 4)
        assert all(body["n"] == 4 and "seed" not in body and body["stream"] is False for body in server.bodies)


def test_a_server_without_token_ids_and_without_our_fields_still_serves(folder: Path, renderer: Renderer) -> None:
    with FaultServer(refuses=("return_token_ids", "min_p")) as server:
        groups = sampled(served(server, folder), turns(3))
    assert all(group.fault is None for group in groups)
    completion = groups[0].completions_G[0]
    assert completion.token_ids_T == completion.logprobs_T == () and "answers" in (completion.action.content or "")


def test_a_top_k_that_was_asked_for_is_never_dropped(folder: Path, renderer: Renderer) -> None:
    with FaultServer(encode=renderer.encode_text, end_id=renderer.end_id, refuses=("top_k",)) as server:
        sampler = served(server, folder)
        (group,) = sampler.sample(turns(1), 2, SAMPLING)
        assert group.fault is None
        (group,) = sampler.sample(turns(1), 2, SAMPLING.model_copy(update={"top_k": 5}))
        assert group.fault == "server_refused"


def test_unknown_logprobs_survive_the_disk(folder: Path, renderer: Renderer) -> None:
    options: dict[str, Any] = {"encode": renderer.encode_text, "end_id": renderer.end_id}
    with FaultServer(["logprobs_null"], 1.0, **options) as server:
        (group,) = sampled(served(server, folder), turns(1), 1)
    read = decode_line(encode_line(group)[:-1], SampleGroup)
    assert read.completions_G[0].token_ids_T and all(map(math.isnan, read.completions_G[0].logprobs_T))


def test_an_outage_stops_and_is_no_zero(folder: Path, renderer: Renderer, tmp_path: Path) -> None:
    options: dict[str, Any] = {"encode": renderer.encode_text, "end_id": renderer.end_id}
    asked, path = turns(30), tmp_path / "profiles.jsonl"
    profiling = ProfileOptions(num_samples=2, max_tokens=40, batch_turns=10)
    with FaultServer(["truncated"], 0.0, **options) as server:
        sampler = served(server, folder)
        profile(asked[:10], sampler, has_digit, path, profiling)
        server.rate = 1.0
        with pytest.raises(InputError, match=r"no usable samples for 10 turns in a row \(server_answer_malformed\)"):
            profile(asked, sampler, has_digit, path, profiling)
        server.rate, asked_before = 0.0, len(server.bodies)
        groups, left_out = profile(asked, sampler, has_digit, path, profiling)
    assert len(server.bodies) - asked_before == 20 and len(groups) == 30 and left_out == []


def test_a_turn_without_samples_is_asked_again_at_the_end_and_then_left_out_by_its_reason(
    folder: Path, renderer: Renderer, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"encode": renderer.encode_text, "end_id": renderer.end_id}
    asked, path = turns(20), tmp_path / "profiles.jsonl"
    with FaultServer(["refused_400"], 0.8, **options) as server, pytest.warns(match="left out and counted"):
        sampler = served(server, folder)
        groups, left_out = profile(asked, sampler, has_digit, path, ProfileOptions(num_samples=2, max_tokens=40))
        assert left_out and {skip.reason for skip in left_out} <= {"server_refused", "server_token_ids_missing"}
        assert len(groups) + len(left_out) == 20 == len(RecordFile(path, SampleGroup)) + len(left_out)
        server.rate, before = 0.0, len(server.bodies)
        groups, _ = profile(asked, sampler, has_digit, path, ProfileOptions(num_samples=2, max_tokens=40))
        assert len(groups) == 20
        assert len(server.bodies) - before == len(left_out)  # what is on disk is not bought twice


@pytest.mark.parametrize(("fault", "stops"), [("refused_400", False), ("token_lost", True)])
def test_refused_turns_are_left_out_but_an_unfit_server_stops_before_all_is_bought(
    folder: Path, renderer: Renderer, tmp_path: Path, fault: str, stops: bool
) -> None:
    asked, profiling = turns(40), ProfileOptions(num_samples=2, max_tokens=40, batch_turns=10)
    options: dict[str, Any] = {"encode": renderer.encode_text, "end_id": renderer.end_id}
    with warnings.catch_warnings(), FaultServer([fault], 1.0, **options) as server:
        warnings.simplefilter("ignore")
        if stops:
            with pytest.raises(InputError, match=r"10 turns in a row \(server_tokens_inconsistent\)"):
                profile(asked, served(server, folder), has_digit, tmp_path / "p.jsonl", profiling)
            assert len(server.bodies) == 10
        else:
            groups, left_out = profile(asked, served(server, folder), has_digit, tmp_path / "p.jsonl", profiling)
            assert groups == [] and [skip.reason for skip in left_out] == ["server_refused"] * 40


@pytest.mark.parametrize("limit", ["max_requests", "max_tokens_total"])
def test_a_spent_budget_stops_and_a_larger_one_goes_on(
    folder: Path, renderer: Renderer, tmp_path: Path, limit: str
) -> None:
    asked, path = turns(30), tmp_path / "profiles.jsonl"
    profiling = ProfileOptions(num_samples=2, max_tokens=40, batch_turns=10)
    small = {"max_requests": 15, "max_tokens_total": 200}[limit]
    with FaultServer(encode=renderer.encode_text, end_id=renderer.end_id) as server:
        with pytest.raises(InputError, match=rf"budget of {small} .* is spent.*raise {limit} and repeat"):
            profile(asked, served(server, folder, **{limit: small}), has_digit, path, profiling)
        assert len(RecordFile(path, SampleGroup)) == 10 and len(server.bodies) <= 15
        groups, _ = profile(asked, served(server, folder, **{limit: 10**6}), has_digit, path, profiling)
        assert len(groups) == 30 == len(server.bodies)


PRICES = {"input_price": 2000.0, "output_price": 5000.0}


def money(server: FaultServer) -> float:
    """What the server would charge for all that it answered."""
    return sum(2000.0 * used["prompt_tokens"] + 5000.0 * used["completion_tokens"] for used in server.usages) / 1e6


def test_money_is_counted_bounded_and_outlives_a_resume(folder: Path, renderer: Renderer, tmp_path: Path) -> None:
    asked, path = turns(30), tmp_path / "profiles.jsonl"
    profiling = ProfileOptions(num_samples=2, max_tokens=40, batch_turns=10)
    with FaultServer(encode=renderer.encode_text, end_id=renderer.end_id) as server:
        with pytest.raises(InputError, match=r"budget of 0.001 in money is spent: .* are used.*raise max_cost and"):
            profile(asked, served(server, folder, **PRICES, max_cost=0.001), has_digit, path, profiling)
        assert len(RecordFile(path, SampleGroup)) == 10, "the batch that reached it is finished"
        assert money_of(tmp_path, "profile") == pytest.approx(money(server)) and money(server) > 0.001
        groups, _ = profile(asked, served(server, folder, **PRICES, max_cost=1e6), has_digit, path, profiling)
        assert len(groups) == 30 == len(server.bodies)
        assert money_of(tmp_path, "profile") == pytest.approx(money(server))
        profile(asked, served(server, folder), has_digit, tmp_path / "free.jsonl", profiling)
    assert all(group.cost is None for group in RecordFile(tmp_path / "free.jsonl", SampleGroup)), "unknown is not 0"


@pytest.mark.parametrize(("fault", "rate"), [("short", 0.5), ("no_text", 0.3)])
def test_answers_of_no_use_cost_money_too(
    folder: Path, renderer: Renderer, tmp_path: Path, fault: str, rate: float
) -> None:
    asked, path = turns(20), tmp_path / "profiles.jsonl"
    profiling = ProfileOptions(num_samples=3, max_tokens=40)
    with FaultServer([fault], rate, encode=renderer.encode_text, end_id=renderer.end_id) as server:
        _, left_out = profile(asked, served(server, folder, **PRICES), has_digit, path, profiling)
        assert server.happened[fault] and not left_out
    assert money_of(tmp_path, "profile") == pytest.approx(money(server))
    assert tokens_of(tmp_path, "profile") == sum(used["completion_tokens"] for used in server.usages)


PAID = ["aborted", "no_text", "short", "token_lost", "another_model"]
"""Faults of answers that a server counts, and charges for."""


def test_every_try_is_counted_also_where_there_are_no_samples_in_the_end(
    folder: Path, renderer: Renderer, tmp_path: Path
) -> None:
    """A profile, held-out turns, and walks; some turns are asked twice, some get no samples at all."""
    asked, draws = turns(30), EvaluationOptions(eval_max_tokens=40, turn_samples=2, turn_temperature=1.0, eval_batch=10)
    for stage, path in (("profile", "profiles.jsonl"), ("evaluations/after", "evaluations/after.turns.jsonl")):
        with FaultServer(PAID, 0.75, encode=renderer.encode_text, end_id=renderer.end_id) as server:
            sampler = served(server, folder, **PRICES)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if stage == "profile":
                    _, left_out = profile(asked, sampler, has_digit, tmp_path / path, ProfileOptions(num_samples=3))
                    assert left_out
                else:
                    found = evaluate_turns(sampler, asked, has_digit, tmp_path / path, draws)
                    assert any(result.reward is None for result in found)
            lost = list(RecordFile(lost_path(tmp_path / path), LostTry))
            assert lost and sum(one.cost or 0.0 for one in lost) > 0.05 * money(server)
            assert money_of(tmp_path, stage) == pytest.approx(money(server))
            assert tokens_of(tmp_path, stage) == sum(used["completion_tokens"] for used in server.usages)


def test_a_try_before_a_kill_is_counted_once(folder: Path, renderer: Renderer, tmp_path: Path) -> None:
    asked, path = turns(4), tmp_path / "evaluations/after.turns.jsonl"
    draws = EvaluationOptions(eval_max_tokens=40)

    class Dying(Sampler):
        num_asked = 0

        def sample(self, *arguments: Any, **options: Any) -> Any:
            self.num_asked += 1
            if self.num_asked == 2:
                raise KeyboardInterrupt
            return super().sample(*arguments, **options)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with FaultServer(["no_text"], 1.0, encode=renderer.encode_text, end_id=renderer.end_id) as broken:
            dying = Dying(base_url=broken.url, model="m", tokenizer=str(folder), **PRICES)
            with pytest.raises(KeyboardInterrupt):
                evaluate_turns(dying, asked, has_digit, path, draws)
            assert money(broken) > 0 == len(RecordFile(path, TurnResult))
        with FaultServer(encode=renderer.encode_text, end_id=renderer.end_id) as whole:
            evaluate_turns(served(whole, folder, **PRICES), asked, has_digit, path, draws)
    assert money_of(tmp_path, "evaluations/after") == pytest.approx(money(broken) + money(whole))


def test_walks_episodes_and_answers_keep_what_they_cost(folder: Path, renderer: Renderer, tmp_path: Path) -> None:
    draws = EvaluationOptions(eval_max_tokens=40, eval_batch=10)
    texts: list[Any] = [{"id": str(i), "source": "s", "prompt": f"q{i}", "answer": "a"} for i in range(5)]
    works: dict[str, Any] = {
        "progress": lambda s, path: evaluate_progress(s, turns(6), has_digit, path, draws),
        "episodes": lambda s, path: evaluate_episodes(s, make_checked({"guess": guesses}), path, draws),
        "answers": lambda s, path: evaluate_answers(s, texts, has_digit, path, draws),
    }
    for kind, work in works.items():
        with FaultServer(PAID, 0.3, encode=renderer.encode_text, end_id=renderer.end_id) as server:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                work(served(server, folder, **PRICES), tmp_path / f"evaluations/{kind}.{kind}.jsonl")
            assert money(server) > 0
            assert money_of(tmp_path, f"evaluations/{kind}") == pytest.approx(money(server))
            counted = sum(used["completion_tokens"] for used in server.usages)
            assert tokens_of(tmp_path, f"evaluations/{kind}") == counted


def test_a_batch_whose_budget_ends_keeps_what_it_has(folder: Path, renderer: Renderer, tmp_path: Path) -> None:
    """Some answers are of no use, and asking again would exceed the budget: the whole groups are kept."""
    path, profiling = tmp_path / "profiles.jsonl", ProfileOptions(num_samples=2, max_tokens=40, batch_turns=10)
    with FaultServer(["no_text"], 0.4, encode=renderer.encode_text, end_id=renderer.end_id) as server:
        with pytest.raises(InputError, match="budget of 12 requests is spent"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            profile(turns(20), served(server, folder, **PRICES, max_requests=12), has_digit, path, profiling)
        assert 0 < len(RecordFile(path, SampleGroup)) < 10 and len(server.bodies) <= 12
        assert money_of(tmp_path, "profile") == pytest.approx(money(server))


def test_a_server_that_counts_no_tokens_has_no_budget_in_money(
    folder: Path, renderer: Renderer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profiling = ProfileOptions(num_samples=2, max_tokens=40, batch_turns=10)
    read = "pivotrl.samplers.openai.answers.read_usage"
    monkeypatch.setattr(read, lambda told: read_usage(None))
    with FaultServer(encode=renderer.encode_text, end_id=renderer.end_id) as server:
        sampler = served(server, folder, **PRICES, max_cost=1e6)
        with pytest.raises(InputError, match="does not count the tokens"):
            profile(turns(30), sampler, has_digit, tmp_path / "p.jsonl", profiling)
        assert len(server.bodies) == 10
    assert all(group.cost is None for group in RecordFile(tmp_path / "p.jsonl", SampleGroup))


@pytest.mark.parametrize(
    ("told", "cost"),
    [
        ({"prompt_tokens": 1000, "completion_tokens": 10}, 2.05),
        ({"prompt_tokens": 1000, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 400}}, 1.65),
        ({"prompt_tokens": 1000, "completion_tokens": 10, "prompt_cache_hit_tokens": 400}, 1.65),
        ({"prompt_tokens": 1000, "completion_tokens": 10, "prompt_tokens_details": None}, 2.05),
        ({"prompt_tokens": 1000, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 9999}}, 1.05),
        ({"prompt_tokens": 1000}, None),
        ({"prompt_tokens": -1, "completion_tokens": True}, None),
        ("many", None),
    ],
)
def test_money_of_a_request(told: Any, cost: float | None) -> None:
    found = Prices(input_price=2000.0, output_price=5000.0, cached_price=1000.0).cost(read_usage(told))
    assert found == (None if cost is None else pytest.approx(cost))


def test_prices_without_which_there_is_no_money_are_asked_for() -> None:
    for options, told in (
        ({"max_cost": 5.0}, "max_cost.* needs input_price and output_price"),
        ({"input_price": 1.0, "max_cost": 5.0}, "output_price.*is missing"),
        ({"cached_price": 1.0}, "cached_price.*only with"),
        ({"input_price": -1.0, "output_price": 1.0}, "input_price"),
    ):
        with pytest.raises(InputError, match=told.replace("_", "[_-]")):
            Sampler(base_url="http://127.0.0.1:1/v1", model="m", **options)  # type: ignore[arg-type]


def test_the_identity_knows_model_and_mode_but_not_the_address(folder: Path, renderer: Renderer) -> None:
    options: dict[str, Any] = {"encode": renderer.encode_text, "end_id": renderer.end_id}
    with FaultServer(**options) as one, FaultServer(**options) as other:
        known = served(one, folder).identity
        assert known == served(other, folder).identity and "127.0.0.1" not in json.dumps(known)
        assert known["mode"] == "token_ids" and known["served"] == {"id": "m"} and known["template_sha256"]
        assert served(one).identity["mode"] == "messages"
        assert served(one, folder, choices="single").identity != known
        with pytest.raises(InputError, match="does not serve 'x'; it serves m"):
            Sampler(base_url=one.url, model="x").identity  # noqa: B018
    with FaultServer(lists_models=False, **options) as silent:
        assert served(silent, folder).identity["served"] == {"models": "not reported"}


def test_a_turn_longer_than_the_served_context_does_not_fit(folder: Path, renderer: Renderer) -> None:
    long = Turn(Trajectory(id="long", task_id="long", messages=(Message(role="user", content="x" * 2040),)), 1)
    with FaultServer(encode=renderer.encode_text, end_id=renderer.end_id) as server:
        assert not served(server, folder).fits(long, 40) and served(server, folder, max_context=4096).fits(long, 40)


# --- messages -----------------------------------------------------------------------------------------------------

ARGUMENTS = {"place": "kitchen"}
CALL = {"id": "c1", "type": "function", "function": {"name": "go", "arguments": json.dumps(ARGUMENTS)}}
TOOL = Tool(name="go", description="walk", parameters={"type": "object", "properties": {"place": {"type": "string"}}})


def with_tools(number: int) -> list[Turn]:
    return [
        Turn(
            Trajectory(id=f"t{i}", task_id=f"t{i}", messages=(Message(role="user", content=f"go {i}"),), tools=(TOOL,)),
            1,
        )
        for i in range(number)
    ]


SAME_CALL = {
    "as it should be": {"content": None, "tool_calls": [CALL]},
    "quoted twice": {
        "tool_calls": [{**CALL, "function": {"name": "go", "arguments": json.dumps(json.dumps(ARGUMENTS))}}]
    },
    "an object": {"content": "", "tool_calls": [{"function": {"name": "go", "arguments": ARGUMENTS}}]},
    "left in the text": {
        "content": f'<tool_call>\n{{"name": "go", "arguments": {json.dumps(ARGUMENTS)}}}\n</tool_call>'
    },
}


@pytest.mark.parametrize("way", SAME_CALL)
def test_a_call_is_read_however_the_server_writes_it(way: str) -> None:
    with FaultServer(message=lambda text: {"role": "assistant", **SAME_CALL[way]}) as server:
        (group,) = served(server).sample(with_tools(1), 2, SAMPLING)
        assert server.bodies[0]["tools"][0]["function"]["name"] == "go" and "prompt" not in server.bodies[0]
    for completion in group.completions_G:
        (call,) = completion.action.tool_calls
        assert (call.name, json.loads(call.arguments)) == ("go", ARGUMENTS) and completion.parse_error is None
        assert completion.token_ids_T == completion.logprobs_T == ()


def test_no_group_of_messages_is_wrong_at_forty_percent_faults() -> None:
    asked = turns(300)
    prompts = {turn.id: prompt_of(api_messages(turn.context)) for turn in asked}
    with FaultServer([*CHANGES, *BREAKS], 0.4) as server:
        groups = sampled(served(server), asked, 4)
        # A copy cannot be told from a sample where log-probabilities are unknown, unless the whole group is one.
        copied = server.happened["copied"]
        assert len(wrong(server, groups, prompts, 4)) <= copied
        server.faults.remove("copied")
        groups = sampled(served(server), asked, 4)
        assert wrong(server, groups, prompts, 4) == []
        assert sum(group.fault is None for group in groups) > 100
