"""Numbers in words equal their figures where a package says so, and never those of another number."""

import pytest

pytest.importorskip("text_to_num")
pytest.importorskip("cn2an")

from pivotrl.judging.answers.answers import AnswerRules, compare_answers
from pivotrl.judging.arguments.rules import parse_rule
from pivotrl.judging.messages import number_words
from pivotrl.judging.messages.messages import compare_messages

SAME = [
    ("42", "forty-two"),
    ("305", "three hundred and five"),
    ("33", "dreiunddreißig"),
    ("33", "treinta y tres"),
    ("91", "quatre-vingt-onze"),
    ("70", "septante"),
    ("300", "三百"),
    ("200", "两百"),
    ("20000", "2万"),
    ("5 km", "five km"),
    ("forty-two", "42"),
]
OTHER = [
    ("40", "fourteen"),
    ("17", "siebzig"),
    ("80", "quatre-vingt-dix"),
    ("3000", "三百"),
    ("23", "二三"),  # two or three
    ("1000000000", "billion"),  # 10^12 elsewhere
    ("20", "twenty or thirty"),
    ("5 km", "five miles"),
]


@pytest.mark.parametrize(("expected", "answer"), SAME)
def test_an_answer_in_words_passes(expected: str, answer: str) -> None:
    assert compare_answers(expected, answer, AnswerRules()) == "match"


@pytest.mark.parametrize(("expected", "answer"), OTHER)
def test_another_number_in_words_does_not(expected: str, answer: str) -> None:
    assert compare_answers(expected, answer, AnswerRules()) != "match"


@pytest.mark.parametrize(
    ("one", "other", "passes"),
    [
        ("Es sind zwölf Plätze frei.", "Es sind 12 Plätze frei.", True),
        ("Es sind zwölf Plätze frei.", "Es sind 11 Plätze frei.", False),
        ("Quedan doscientos asientos libres.", "Quedan 200 asientos libres.", True),
        ("Il reste quatre-vingts places.", "Il reste 80 places.", True),
        ("Il y a une place neuf.", "Il y a une place 9.", False),
        ("一共有二十一个座位。", "一共有21个座位。", True),
        ("一共有二十一个座位。", "一共有12个座位。", False),
        ("十分感谢您。", "10分感谢您。", False),
    ],
)
def test_messages(one: str, other: str, passes: bool) -> None:
    outcomes = {compare_messages(one, other, ()).outcome, compare_messages(other, one, ()).outcome}
    assert outcomes == {"pass"} if passes else "pass" not in outcomes


def test_the_rule_number() -> None:
    rule = parse_rule("number")
    assert rule.compare("3", "three") == rule.compare("0.5", "1/2") == rule.compare("-5", "\u22125") == "equal"
    assert rule.compare("3", "thirteen") == rule.compare("0.5", "2/1") == "different"
    assert rule.compare("5", "5 apples") is None


def test_without_the_packages_there_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(number_words, "_package", lambda name: None)
    for cached in (number_words._latin, number_words._chinese):
        cached.cache_clear()
    assert compare_answers("33", "dreiunddreißig", AnswerRules()) == "unknown_notation"
    assert compare_answers("33", "33 Euro", AnswerRules()) == "different_unit"
    for cached in (number_words._latin, number_words._chinese):
        cached.cache_clear()
