"""Attacks on the words of a message: a key word changed or left out, roles swapped, a question
made of a statement, another language."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pivotrl.judging.messages.languages import language_of, script_of
from pivotrl.judging.probes.commands import is_prose
from pivotrl.judging.probes.probe import Probe, attack
from pivotrl.protocols import Turn
from pivotrl.records import Action

_EXCHANGED = (
    *(("and", "or"), ("or", "and"), ("must", "may"), ("may", "must"), ("all", "some"), ("every", "hardly any")),
    *(("before", "after"), ("after", "before"), ("always", "sometimes"), ("was", "will be"), ("were", "will be")),
    *(("has been", "will be"), ("have been", "will be"), ("only", "also"), ("more", "less"), ("with", "without")),
)
_LEFT_OUT = re.compile(
    r"\b(?:not|never|no|hardly|nearly|almost|partly|only|without|unless|if|cannot|unable|yet|except|"
    r"nicht|kein|keine|noch|jamais|pas|sans|ne|sin|nunca|nao|non|senza|niet|geen|inte|не|нет|ни|без)\b ?",
    re.IGNORECASE,
)
_UNSPACED_NEGATIONS = re.compile("没有|没|未|不|無|无|ません|ない|ไม่|ບໍ່|មិន|안 |لا |لم |لن |غير ")
_NAME = re.compile(r"(?<![.!?] )(?<!\A)\b[A-Z][a-z]{2,}\b(?!')")
_STATEMENT = re.compile(
    r"(?P<subject>\b(?:[Yy]ou|[Ii]t|[Tt]hey|[Tt]his|[Tt]he \w+|[Yy]our \w+)) (?P<verb>is|are|was|were|can|has|will)\b"
)
_FOREIGN = (
    *("您的订单已被取消。", "ご予約は取り消されました。", "ยกเลิกคำสั่งซื้อของคุณแล้ว", "تم إلغاء طلبك."),
    *("Ihre Bestellung wurde storniert.", "Votre commande a été annulée.", "Su pedido ha sido cancelado."),
)
_TURNED = (
    ("您的预约已经取消。", "您的预约没有取消。"),
    ("返品は受け付けました。", "返品は受け付けていません。"),
    ("ส่งของแล้ว", "ยังไม่ได้ส่งของ"),
    ("تم شحن طلبك أمس.", "لم يتم شحن طلبك."),
    ("Ihr Gutschein ist noch nicht abgelaufen.", "Ihr Gutschein ist abgelaufen."),
    ("Votre chambre est réservée avec petit déjeuner.", "Votre chambre est réservée sans petit déjeuner."),
    ("Su pedido no ha salido todavía del almacén.", "Su pedido ha salido del almacén."),
    ("👍", "👎"),
)
"""(said, the contrary): pairs of ours, taken as demonstrated at a turn of the same script and language."""
_MIN_WORDS = 4


def attacks(turn: Turn) -> Iterator[Probe]:
    action = turn.expected_action
    text = action.content or ""
    if not is_prose(action) or not text:
        return
    for old, new in _EXCHANGED:
        changed = re.sub(rf"\b{old}\b", new, text, count=1)
        if changed != text:
            yield _said("said/other_word", changed)
            break
    for pattern in (_LEFT_OUT, _UNSPACED_NEGATIONS):
        if pattern.search(text):
            yield _said("said/word_left_out", pattern.sub("", text, count=1))
    if (names := list(dict.fromkeys(_NAME.findall(text)))) and len(names) > 1:
        turned = re.sub(rf"\b(?:{names[0]}|{names[1]})\b", lambda m: names[m[0] == names[0]], text)
        yield attack("said/roles_exchanged", Action(content=turned))
    if (found := _STATEMENT.search(text)) and "?" not in text:
        asked = f"{found['verb'].capitalize()} {found['subject'].lower()}{text[found.end() :].rstrip(' .!')}?"
        yield _said("said/as_a_question", asked)
    words = text.split()
    if len(words) >= _MIN_WORDS:
        yield _said("said/words_turned_round", " ".join(reversed(words)))
    script, language = script_of(text), language_of(text)
    for foreign in _FOREIGN:
        if (script_of(foreign), language_of(foreign)) != (script, language):
            yield _said("said/other_language", foreign)
    for said, contrary in _TURNED:
        if (script_of(said), language_of(said)) == (script, language):
            probe = attack("said/contrary", Action(content=contrary))
            yield Probe(probe.kind, probe.action, probe.text, "fail", True, None, Action(content=said))


def _said(kind: str, text: str) -> Probe:
    return attack(kind, Action(content=text))
