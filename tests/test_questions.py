"""Questions outside the task: options by likelihood, checkable instructions, generated tasks.

Run alone: python -m pytest tests/test_questions.py
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pivotrl.cli import main
from pivotrl.evaluation import (
    EvaluationOptions,
    answer_accuracy,
    answer_verifier,
    compare_answers,
    compare_finer,
    evaluate_answers,
    finer_score,
    load_questions,
    text_turns,
)
from pivotrl.plugins import extras
from pivotrl.policies.hf import Policy
from pivotrl.protocols import InputError, TrainingGroup, UpdateOptions
from pivotrl.records import Action, AnswerResult
from pivotrl.report.evaluations import answer_scores
from pivotrl.samplers.scripted import Sampler as Scripted
from pivotrl.verifiers import instructions, reasoning_gym
from test_pipeline import write_logs
from tiny import save_tiny_model

COLOURS = ("red", "green", "blue", "black")
QUESTIONS = [
    {
        "id": f"q{number}",
        "source": f"colours/{number % 2}",
        "prompt": f"{number}: colour of {'wxyz'[number // 4] * 8}?",
        "options": list(COLOURS),
        "answer": COLOURS[number // 4],
    }
    for number in range(16)
]
BATTERY = Path(__file__).parents[1] / "recipes" / "questions" / "battery.jsonl"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model"))


def policy_of(folder: Path) -> Policy:
    return Policy(model=str(folder), lora_rank=0, dtype="float32", device="cpu")


def taught(folder: Path, answer: Callable[[dict[str, Any]], str]) -> Policy:
    """Imitates an answer to every question."""
    policy, options = policy_of(folder), UpdateOptions(objective="likelihood", max_gradient_norm=10.0)
    turns = text_turns(QUESTIONS)
    lessons = [
        TrainingGroup(turn, [policy.encode_action(turn, Action(content=answer(question)))], [1.0])
        for turn, question in zip(turns, QUESTIONS, strict=True)
    ]
    for _ in range(30):
        policy.update(lessons, 0.005, options)
    return policy


def wrong_of(question: dict[str, Any]) -> str:
    return next(option for option in question["options"] if option != question["answer"])


def ask(policy: Any, path: Path, questions: list[dict[str, Any]] = QUESTIONS) -> list[AnswerResult]:
    return evaluate_answers(policy, questions, answer_verifier(questions), path)


def test_options_are_scored_as_transformers_scores_them(folder: Path, tmp_path: Path) -> None:
    """The oracle: one row per option with its end token, log-softmax over the whole vocabulary."""
    policy = policy_of(folder)
    results = ask(policy, tmp_path / "a.jsonl")
    plain, end = policy.model, policy.renderer.tokenizer.convert_tokens_to_ids("<|im_end|>")
    for question, turn, result in zip(QUESTIONS[:4], text_turns(QUESTIONS[:4]), results[:4], strict=True):
        prompt, totals, means = list(policy.renderer.prompt(turn)), [], []
        for option in question["options"]:
            ids = [*policy.renderer.tokenizer.encode(option, add_special_tokens=False), end]
            with torch.no_grad():
                logits = plain(input_ids=torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
            logprobs = torch.log_softmax(logits.double(), -1).gather(1, torch.tensor(ids)[:, None])[:, 0]
            totals.append(float(logprobs.sum()))
            means.append(float(logprobs.mean()))
        right = COLOURS.index(question["answer"])
        assert result.option_logprobs_O == pytest.approx(totals, abs=1e-3)
        others = max(total for place, total in enumerate(totals) if place != right)
        assert result.scores["margin"] == pytest.approx(totals[right] - others, abs=2e-3)
        assert result.reward == float(totals[right] == max(totals)) and result.num_tokens == 0
        assert result.text == COLOURS[totals.index(max(totals))]
        assert result.scores["right_per_token"] == float(means[right] == max(means))


def test_a_policy_that_learned_the_answers_is_right_and_one_made_worse_scores_worse(
    folder: Path, tmp_path: Path
) -> None:
    good = ask(taught(folder, lambda question: question["answer"]), tmp_path / "good.jsonl")
    bad = ask(taught(folder, wrong_of), tmp_path / "bad.jsonl")
    told = answer_accuracy(good)
    assert told is not None and told.mean >= 0.9
    change, margin = compare_answers(good, bad), compare_finer(good, bad, "margin")
    assert change is not None and change.high < -0.5
    assert margin is not None and margin.high < 0
    scores = {score.kind: score for score in answer_scores(bad, good)}
    assert scores["answers, margin of the right option"].difference == margin
    assert {"answers, colours", "answers, colours/0", "answers, colours/1"} <= scores.keys()


def test_a_shuffled_key_falls_to_chance(folder: Path, tmp_path: Path) -> None:
    policy = taught(folder, lambda question: question["answer"])
    shuffled = [{**question, "answer": COLOURS[number % 4]} for number, question in enumerate(QUESTIONS)]
    agree = sum(a["answer"] == b["answer"] for a, b in zip(shuffled, QUESTIONS, strict=True)) / len(QUESTIONS)
    results = ask(policy, tmp_path / "a.jsonl", shuffled)
    told, margin = answer_accuracy(results), finer_score(results, "margin")
    assert told is not None and told.mean <= agree + 0.1 < 0.7
    assert margin is not None and margin.mean < 0


def test_questions_are_stored_and_never_asked_twice(folder: Path, tmp_path: Path) -> None:
    policy, scored = policy_of(folder), list[int]()
    whole, inner = tmp_path / "a.jsonl", policy.action_logprobs

    def counted(turns: Any, groups: Any) -> Any:
        scored.append(len(turns))
        if len(scored) == 2:
            raise KeyboardInterrupt
        return inner(turns, groups)

    policy.action_logprobs = counted  # type: ignore[method-assign]
    options = EvaluationOptions(eval_batch=5)
    with pytest.raises(KeyboardInterrupt):
        evaluate_answers(policy, QUESTIONS, answer_verifier(QUESTIONS), whole, options)
    results = evaluate_answers(policy, QUESTIONS, answer_verifier(QUESTIONS), whole, options)
    assert scored == [5, 5, 5, 5, 1] and [r.item_id for r in results] == [q["id"] for q in QUESTIONS]
    at_once = ask(policy_of(folder), tmp_path / "b.jsonl")
    assert [r.scores["margin"] for r in results] == pytest.approx([r.scores["margin"] for r in at_once], abs=1e-3)


def test_a_question_may_limit_its_answer(folder: Path, tmp_path: Path) -> None:
    questions = [
        {"id": f"{limit}", "source": "s", "prompt": "Say anything.", "answer": "x"}
        | ({"max_tokens": limit} if limit else {})
        for limit in (3, 0, 9)
    ]
    path = tmp_path / "q.jsonl"
    path.write_text("".join(json.dumps(question) + "\n" for question in questions))
    read = load_questions(path)
    results = evaluate_answers(
        policy_of(folder), read, answer_verifier(read), tmp_path / "a.jsonl", EvaluationOptions(eval_max_tokens=5)
    )
    assert [result.num_tokens for result in results] == [3, 5, 9] and all(result.num_cut_off for result in results)


def test_examples_come_first_in_the_chat_and_are_not_judged(folder: Path, tmp_path: Path) -> None:
    shown = [{"prompt": "1+1", "answer": "2"}, {"prompt": "2+2", "answer": "4"}]
    questions = [{**QUESTIONS[0], "examples": shown}, QUESTIONS[0]]
    turn, bare = text_turns(questions)
    said = [(message.role, message.content) for message in turn.context]
    assert said[:4] == [("user", "1+1"), ("assistant", "2"), ("user", "2+2"), ("assistant", "4")]
    assert said[4:] == [("user", QUESTIONS[0]["prompt"])] and turn.expected_action == bare.expected_action
    with_examples, without = (ask(policy_of(folder), tmp_path / f"{n}.jsonl", [q])[0] for n, q in enumerate(questions))
    assert with_examples.option_logprobs_O != pytest.approx(without.option_logprobs_O, abs=1e-3)


def test_a_sampler_that_cannot_score_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text("{}")
    with pytest.raises(InputError, match="cannot tell how likely an option is; give a policy"):
        ask(Scripted(script=str(tmp_path / "s.json")), tmp_path / "a.jsonl")
    assert not (tmp_path / "a.jsonl").exists()


ROW = {"id": "1", "source": "s", "prompt": "p"}


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (ROW, "give one of 'answer', 'instructions', 'reasoning_gym'; it has none of them"),
        ({**ROW, "answer": "a", "instructions": [{"id": "x"}]}, "it has answer and instructions"),
        ({**ROW, "options": ["a", "b"]}, "it has none of them"),
        ({**ROW, "answer": "a", "options": "ab"}, "'options' is not a list of texts"),
        ({**ROW, "answer": "a", "options": ["a", " "]}, "'options' is not a list of texts"),
        ({**ROW, "answer": "a", "options": ["a", "a"]}, "two or more different texts"),
        ({**ROW, "answer": "a", "options": ["a"]}, "two or more different texts"),
        ({**ROW, "answer": "a", "options": ["b", "c"]}, "'answer' 'a' is not among the options"),
        ({**ROW, "answer": 4}, "'answer' is not a string"),
        ({**ROW, "answer": "a", "max_tokens": 0}, "'max_tokens' is not a whole number above 0"),
        ({**ROW, "answer": "a", "examples": {"prompt": "p"}}, "'examples' is not a list of objects"),
        ({**ROW, "answer": "a", "examples": [{"prompt": "p"}]}, "'answer' is missing"),
        ({**ROW, "instructions": []}, "'instructions' is not a list of objects with an 'id' each"),
        ({**ROW, "instructions": ["punctuation:no_comma"]}, "'instructions' is not a list"),
        ({**ROW, "reasoning_gym": {"dataset": "gcd"}}, "'reasoning_gym' is not an object with dataset, seed and index"),
        ({**ROW, "reasoning_gym": {"dataset": "gcd", "seed": 0, "index": -1}}, "must be whole numbers, 0 or more"),
        ({"source": "s", "prompt": "p", "answer": "a"}, "'id' is missing"),
        (["a"], "not an object with id, source, prompt"),
    ],
)
def test_a_bad_row_is_told_with_its_place(tmp_path: Path, row: Any, told: str) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps({**ROW, "id": "0", "answer": "a"}) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(InputError) as caught:
        load_questions(path)
    assert str(caught.value).startswith(f"{path}:2 is not a question: ") and told in str(caught.value)
    assert str(caught.value).endswith("Fix or remove the line")


def test_a_missing_package_is_told_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    instructions._checkers.cache_clear()
    instructions._checked.cache_clear()
    monkeypatch.setitem(sys.modules, "if_verifiable", None)
    question = {**ROW, "instructions": [{"id": "punctuation:no_comma"}]}
    with pytest.raises(InputError) as caught:
        answer_verifier([question])
    assert extras.install_hint("battery") in str(caught.value) and "question '1'" in str(caught.value)


# --- instructions ---------------------------------------------------------------------------------------------------


def following(*given: dict[str, Any]) -> Callable[..., Any]:
    pytest.importorskip("if_verifiable", reason="needs the extra 'battery'")
    (turn,) = text_turns([{**ROW, "prompt": "Describe rain.", "instructions": list(given)}])
    return lambda text, **options: instructions.verify(turn, Action(content=text), **options)


NO_COMMA = {"id": "punctuation:no_comma"}
FEW = {"id": "length_constraints:number_words", "num_words": 6, "relation": "less than"}


@pytest.mark.parametrize(
    ("given", "follows", "breaks"),
    [
        (NO_COMMA, "Rain falls and wets.", "Rain falls, and wets."),
        (FEW, "Rain falls from clouds.", "Rain falls from clouds on all of us."),
        ({"id": "change_case:english_lowercase"}, "rain falls from the clouds.", "Rain falls from the clouds."),
        ({"id": "detectable_format:title"}, "<<Rain>>\nIt falls.", "Rain\nIt falls."),
        ({"id": "detectable_format:json_format"}, '{"rain": "falls"}', "rain: falls"),
        ({"id": "startend:end_checker", "end_phrase": "The end."}, "Rain. The end.", "Rain. The end, perhaps."),
        ({"id": "detectable_format:number_bullet_lists", "num_bullets": 2}, "* a\n* b", "* a\n* b\n* c"),
        ({"id": "keywords:forbidden_words", "forbidden_words": ["wet"]}, "Rain falls.", "Rain is wet."),
    ],
)
def test_an_instruction_is_followed_or_not(given: dict[str, Any], follows: str, breaks: str) -> None:
    judge = following(given)
    assert judge(follows).outcome == "pass" and judge(breaks).outcome == "fail"
    assert judge("").reason == "empty_action"


def test_an_answer_that_is_cut_off_counts_as_0_in_the_finer_scores_too(folder: Path, tmp_path: Path) -> None:
    """Left out, it would make the score of a policy that never ends better than it is."""
    pytest.importorskip("if_verifiable", reason="needs the extra 'battery'")
    (result,) = ask(policy_of(folder), tmp_path / "a.jsonl", [{**ROW, "instructions": [NO_COMMA], "max_tokens": 2}])
    assert result.num_cut_off and result.reward == 0.0 and result.scores == {"loose": 0.0, "share": 0.0}


def test_all_instructions_must_be_followed_and_the_loose_check_forgives_a_wrapper() -> None:
    judge = following(NO_COMMA, FEW)
    half = judge("Rain falls from clouds onto every roof here.")
    assert half.outcome == "fail" and half.details["scores"] == {"loose": 0.0, "share": 0.5}
    wrapped = "Sure, here it is:\nRain falls and wets."
    assert judge(wrapped).outcome == "fail" and judge(wrapped, mode="loose").outcome == "pass"
    assert judge(wrapped).details["scores"]["loose"] == 1.0


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"id": "punctuation:no_colon"}, "there is no instruction 'punctuation:no_colon'; there are"),
        ({"id": "startend:end_checker"}, "the arguments of 'startend:end_checker' are end_phrase, not none"),
        ({**NO_COMMA, "also": 1}, "the arguments of 'punctuation:no_comma' are none, not also"),
        ({**FEW, "num_words": "six"}, "cannot be checked with"),
    ],
)
def test_a_check_that_cannot_work_is_refused_before_anything_is_sampled(given: dict[str, Any], told: str) -> None:
    """A checker chooses missing arguments at random, and would check what nobody asked for."""
    pytest.importorskip("if_verifiable", reason="needs the extra 'battery'")
    with pytest.raises(InputError) as caught:
        answer_verifier([{**ROW, "instructions": [given]}])
    assert told in str(caught.value) and str(caught.value).startswith("question '1': ")


# --- generated tasks ------------------------------------------------------------------------------------------------


def generated(name: str, number: int, **options: Any) -> tuple[dict[str, Any], str]:
    """A question and its right answer."""
    gym = pytest.importorskip("reasoning_gym", reason="needs the extra 'battery'")
    entry = gym.create_dataset(name, seed=3, size=8, **options)[number]
    place = {"dataset": name, "seed": 3, "index": number, "options": options}
    row = {**ROW, "id": f"{name}-{number}", "prompt": f"{entry['question']}\nOnly the answer.", "reasoning_gym": place}
    return row, entry["answer"]


EASY: dict[str, dict[str, Any]] = {"chain_sum": {"max_terms": 2}, "spell_backward": {"max_word_len": 4}, "gcd": {}}


@pytest.mark.parametrize("name", EASY)
def test_a_generated_task_is_judged_by_its_scorer_and_a_shuffled_key_fails(name: str) -> None:
    rows = [generated(name, number, **EASY[name]) for number in range(8)]
    questions, answers = [row for row, _ in rows], [answer for _, answer in rows]
    judge = answer_verifier(questions)
    turns = text_turns(questions)
    assert all(
        judge(turn, Action(content=text)).outcome == "pass"
        for turn, answer in zip(turns, answers, strict=True)
        for text in (answer, f"I think <answer>{answer}</answer>.")
    )
    moved = [*answers[1:], answers[0]]
    expected = [one == other for one, other in zip(answers, moved, strict=True)]
    verdicts = [judge(turn, Action(content=answer)) for turn, answer in zip(turns, moved, strict=True)]
    assert [verdict.outcome == "pass" for verdict in verdicts] == expected and not all(expected)


def test_scorers_that_run_the_answer_and_other_questions_are_refused() -> None:
    question, _ = generated("gcd", 1)
    place = question["reasoning_gym"]
    for other, told in (
        ({**place, "dataset": "countdown"}, "would run the model's answer as Python"),
        ({**place, "dataset": "no_such"}, "reasoning-gym has no task at"),
        ({**place, "seed": 4}, "generates another question at"),
        ({**place, "options": {"no_such": 1}}, "reasoning-gym has no task at"),
    ):
        with pytest.raises(InputError, match=told):
            answer_verifier([{**question, "reasoning_gym": other}])


def test_every_scorer_that_evaluates_text_is_on_the_list() -> None:
    """No answer may run as code: what a scorer's module evaluates is either on the list or looked at."""
    gym = pytest.importorskip("reasoning_gym", reason="needs the extra 'battery'")
    harmless = {"basic_arithmetic", "bitwise_arithmetic", "gsm_symbolic", "number_sorting", "propositional_logic"}
    found = set()
    for name, (dataset, _) in gym.factory.DATASETS.items():
        source = Path(str(sys.modules[dataset.__module__].__file__)).read_text()
        if any(word in source for word in (" eval(", "(eval(", "exec(", "parse_expr(", "sympify(")):
            found.add(name)
    assert found - harmless <= reasoning_gym.EVALUATES_ANSWERS and found > harmless - {"gsm_symbolic"}


# --- the whole way --------------------------------------------------------------------------------------------------


def test_the_command_measures_options_and_the_report_shows_them(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, file, other = tmp_path / "run", tmp_path / "q.jsonl", save_tiny_model(tmp_path / "other", seed=1)
    write_logs(tmp_path / "logs.jsonl", 6)
    file.write_text("".join(json.dumps(question) + "\n" for question in QUESTIONS))
    main(["read", str(tmp_path / "logs.jsonl"), "-o", str(run), "--heldout-fraction", "0.4"])
    given = ["--policy", "hf(device='cpu', dtype='float32')", "--answers", str(file), "--heldout-turns", "0"]
    main(["evaluate", str(run), "--name", "before", "--model", str(folder), *given])
    capsys.readouterr()
    main(["evaluate", str(run), "--as-given", "--model", str(other), *given])
    told = capsys.readouterr().out
    assert "answers outside the task: " in told and "answers, margin of the right option: " in told
    assert "answers, colours/1: " in told and "(share right, 8 items); change since before" in told
    main(["report", str(run)])
    page = (run / "report.html").read_text()
    assert '<section id="outside">' in page and "margin of the right option, nats" in page and "colours/1" in page
    main(["evaluate", str(run), "--as-given", "--model", str(other), *given])
    assert len((run / "evaluations/after.answers.jsonl").read_text().splitlines()) == len(QUESTIONS)


def test_the_tables_of_the_page_are_those_of_the_committed_results() -> None:
    page = BATTERY.parent / "page.py"
    assert subprocess.run([sys.executable, str(page), "--check"]).returncode == 0, "run recipes/questions/page.py"


def test_the_committed_battery_is_small_and_holds_only_kinds_that_were_kept() -> None:
    questions = load_questions(BATTERY)
    chosen = json.loads((BATTERY.parent / "chosen.json").read_text())["kinds"]
    assert BATTERY.stat().st_size <= 300_000
    assert {question["source"] for question in questions} == {kind for kind, it in chosen.items() if it["kept"]}
    assert len({question["source"].partition("/")[0] for question in questions}) == 3
    if all(map(_is_installed, ("if_verifiable", "reasoning_gym"))):
        answer_verifier(questions)


def _is_installed(package: str) -> bool:
    try:
        __import__(package)
    except ModuleNotFoundError:
        return False
    return True
