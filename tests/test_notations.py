"""Dates, times and amounts in other languages: equal when the CLDR says so, and never when it is another value."""

import pytest

pytest.importorskip("babel")

from pivotrl.judging.answers.answers import AnswerRules, compare_answers
from pivotrl.judging.arguments.rules import parse_rule
from pivotrl.judging.messages import cldr, notations
from pivotrl.judging.messages.cldr import read_local_date
from pivotrl.judging.messages.messages import compare_messages

SAME = [
    ("Wir liefern am 5. März 2026 an Sie.", "Wir liefern am 05.03.2026 an Sie."),
    ("Wir liefern am Donnerstag, 5. März 2026.", "Wir liefern am 5. März 2026."),
    ("Sie bekommen 15 Prozent Rabatt auf alles.", "Sie bekommen 15 % Rabatt auf alles."),
    ("Die Rechnung beträgt 12,50 Euro.", "Die Rechnung beträgt 12,50 €."),
    ("El vuelo sale a las 7:30 p. m. de Madrid.", "El vuelo sale a las 19:30 de Madrid."),
    (
        "Su vuelo a la ciudad de México sale el 25 de marzo de 2026.",
        "Su vuelo a la ciudad de México sale el 25/3/2026.",
    ),
    ("El precio de la habitación es de 80 euros.", "El precio de la habitación es de 80 €."),
    ("Le train pour Paris part à 8 h 05.", "Le train pour Paris part à 8:05."),
    ("Votre rendez-vous est le 5 mars 2026.", "Votre rendez-vous est le 05/03/2026."),
    ("Le prix de la chambre est de 1\u202f500 euros.", "Le prix de la chambre est de 1500 €."),
    ("会议在下午3:00开始。", "会议在15:00开始。"),
    ("Der Titel „Alles gut“ kostet 80 Euro.", "Der Titel „Alles gut“ kostet 80 €."),
]
OTHER = [
    ("Wir liefern am 5. März 2026 an Sie.", "Wir liefern am 03.05.2026 an Sie."),
    ("Sie bekommen 15 Prozent Rabatt auf alles.", "Sie bekommen 1,5 % Rabatt auf alles."),
    ("Die Rechnung beträgt 12,50 Euro.", "Die Rechnung beträgt 1250 €."),
    ("Die Rechnung beträgt 12,50 Euro.", "Die Rechnung beträgt 12,50 £."),
    ("Die Miete beträgt 1.500 Euro im Monat.", "Die Miete beträgt 1,500 € im Monat."),
    ("El vuelo sale a las 7:30 p. m. de Madrid.", "El vuelo sale a las 7:30 de Madrid."),
    ("El vuelo sale a las 7:30 p. m. de Madrid.", "El vuelo no sale a las 19:30 de Madrid."),
    ("El vuelo sale el 5 de marzo de 2026.", "El vuelo sale el 03/05/2026."),
    ("El precio de la habitación es de 80 euros.", "El precio de la habitación es de 80 dólares."),
    ("Schreiben Sie „5 €“ und nicht „5 EUR“ ins Feld.", "Schreiben Sie „5 EUR“ und nicht „5 €“ ins Feld."),
    ("Geben Sie in das Feld `5 €` ein.", "Geben Sie in das Feld `5 EUR` ein."),
    ("Escriba «5 de marzo de 2026» en el formulario.", "Escriba «5/3/2026» en el formulario."),
    ("Das Zimmer 2 150 € kostet heute weniger als gestern.", "Das Zimmer 2150 € kostet heute weniger als gestern."),
    ("Le train pour Paris part à 20 h 05.", "Le train pour Paris part à 8:05."),
    ("Votre rendez-vous est le 5 mars 2026.", "Votre rendez-vous est le 05/05/2026."),
    ("Le prix de la chambre est de 1\u202f500 euros.", "Le prix de la chambre est de 1 50 €."),
    ("会议在下午3:00开始。", "会议在3:00开始。"),
    ("会议在上午3:00开始。", "会议在15:00开始。"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_another_notation_of_the_same_passes(one: str, other: str) -> None:
    assert compare_messages(one, other, ()).outcome == compare_messages(other, one, ()).outcome == "pass"


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_another_value_or_word_never_passes(one: str, other: str) -> None:
    assert "pass" not in (compare_messages(one, other, ()).outcome, compare_messages(other, one, ()).outcome)


def test_a_date_that_regions_read_differently_is_not_read() -> None:
    """Panama and Puerto Rico write the month first."""
    said = ("Su cita en la clínica es el 5 de marzo de 2026.", "Su cita en la clínica es el 05/03/2026.")
    assert compare_messages(*said, ()).outcome == "no_verdict"


@pytest.mark.parametrize(
    "text", ["5. März 2024", "5 de marzo de 2024", "5 mars 2024", "mardi 5 mars 2024", "2024年3月5日", "5 marzo 2024"]
)
def test_a_date_alone_is_read_in_many_languages(text: str) -> None:
    found = read_local_date(text)
    assert found is not None and found.isoformat() == "2024-03-05"
    assert compare_answers("2024-03-05", text, AnswerRules()) == "match"
    assert compare_answers("2024-03-06", text, AnswerRules()) == "different_answer"
    rule = parse_rule("date")
    assert (rule.compare("2024-03-05", text), rule.compare("2024-05-03", text)) == ("equal", "different")


@pytest.mark.parametrize("text", ["lundi 5 mars 2024", "31 février 2024", "5 mars 24", "5 mars", "le 5 mars 2024 ?"])
def test_what_is_no_day_of_a_year_is_no_date(text: str) -> None:
    assert read_local_date(text) is None


def test_without_the_package_there_is_no_verdict_and_no_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notations, "is_installed", lambda: False)
    monkeypatch.setattr(cldr, "LANGUAGES", ())
    notations._in_one_way.cache_clear()
    assert compare_messages(*SAME[0], ()).outcome == "no_verdict"
    notations._in_one_way.cache_clear()
    assert compare_answers("2024-03-05", "5. März 2024", AnswerRules()) == "unknown_notation"
    assert compare_answers("2024-03-05", "6. März 2024", AnswerRules()) == "unreadable_answer"
    assert parse_rule("date").compare("2024-03-05", "5. März 2024") == "undecided"


SAYINGS = [
    ('The manager said "I refunded you".', "The manager said I refunded you.", False),
    ("The manager said “I refunded you”.", 'The manager said "I refunded you".', True),
    ('Please press "Next".', "Please press Next.", True),
    ("Der Kunde sagte: „Ich zahle.“", "Der Kunde sagte: Ich zahle.", False),
    ("Elle a dit « je paie ».", "Elle a dit je paie.", False),
    ("经理说:“我退款了。”", "经理说:我退款了。", False),
    ('"Your order is on its way."', "Your order is on its way.", True),
    ("It's the guests' room, and it's ours.", "It's the guests' room, and it's ours!", True),
]


@pytest.mark.parametrize(("one", "other", "passes"), SAYINGS)
def test_direct_speech_keeps_its_marks(one: str, other: str, passes: bool) -> None:
    outcomes = {compare_messages(one, other, ()).outcome, compare_messages(other, one, ()).outcome}
    assert outcomes == {"pass"} if passes else "pass" not in outcomes


@pytest.mark.parametrize(
    ("one", "other", "passes"),
    [
        ("Only your files were deleted by the update.", "Only files were deleted by the update.", False),
        ("I will delete your copies of the report.", "I will delete copies of the report.", False),
        ("I have cancelled your reservation for tonight.", "I have cancelled the reservation for tonight.", True),
        ("I have cancelled your reservation for tonight.", "I have cancelled a reservation for tonight.", False),
    ],
)
def test_your_may_only_become_the(one: str, other: str, passes: bool) -> None:
    outcomes = {compare_messages(one, other, ()).outcome, compare_messages(other, one, ()).outcome}
    assert outcomes == {"pass"} if passes else "pass" not in outcomes


@pytest.mark.parametrize(
    "said", [("Quedan cinco plazas.", "Quedan 6 plazas."), ("Il reste dix lits.", "Il reste 12 lits.")]
)
def test_numbers_of_a_text_that_is_hardly_english_do_not_fail_it(said: tuple[str, str]) -> None:
    assert compare_messages(*said, ()).outcome == "no_verdict"


def test_numbers_of_an_english_text_still_fail_it() -> None:
    assert compare_messages("There are five seats left.", "There are 6 seats left.", ()).outcome == "fail"
