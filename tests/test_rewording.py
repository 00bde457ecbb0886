"""Messages that say the same in another turn of phrase or typesetting pass, in both directions; their twins do not.

Run alone: python -m pytest tests/test_rewording.py
"""
# ruff: noqa: RUF001

from __future__ import annotations

import pytest

from pivotrl.judging.messages.messages import compare_messages

SAME = [
    ("Your flight leaves on the 3rd May 2026.", "Your flight leaves on the May 3, 2026."),
    ("L’hôtel est complet.", "L'hôtel est complet."),
    ("¿Desea algo más?", "Desea algo más?"),
    ("您的房间号是１２０３。", "您的房间号是1203。"),
    ("您的航班在2026年5月3日。", "您的航班在2026年05月03日。"),
    ("请点击“保存”。", "请点击「保存」。"),
    ("我们有 3 个房间。", "我们有3个房间。"),
    ("请打开 Wi-Fi 设置。", "请打开Wi-Fi设置。"),
    ("The current stock price of Microsoft is $210.22.", "Microsoft's current stock price is $210.22."),
    ("What is your booking number?", "Please tell me your booking number."),
    ("What's your booking number?", "Could you please tell me your booking number?"),
    ("The shop opens at half past nine tomorrow.", "The shop opens at 9:30 tomorrow."),
    ("Your order of a dozen eggs is on the way.", "Your order of 12 eggs is on the way."),
]
OTHER = [
    ("Your flight leaves on 3 May 2026.", "Your flight leaves on May 4, 2026."),
    ("Your flight leaves on 3 May 2026.", "Your flight leaves on March 5, 2026."),
    ("The sale runs from 1-3 May 2026 in the shop.", "The sale runs from May 1-3, 2027 in the shop."),
    ("You get half a dozen eggs with this order.", "You get 12 eggs with this order."),
    ("You get a dozen eggs with this order.", "You get 10 eggs with this order."),
    ("The shop opens at half past nine tomorrow.", "The shop opens at 8:30 tomorrow."),
    ("The shop opens at half past nine tomorrow.", "The shop opens at 9:15 tomorrow."),
    ("The shop opens at quarter past nine tomorrow.", "The shop opens at 9:30 tomorrow."),
    ("What is your booking number?", "Tell me the booking number of your friend."),
    ("What is your booking number?", "Tell me your phone number."),
    ("What is your booking number?", "I will tell you your booking number."),
    ("The current stock price of Microsoft is $210.22.", "Apple's current stock price is $210.22."),
    ("The current stock price of Microsoft is $210.22.", "Microsoft's former stock price is $210.22."),
    ("The fear of Anna is great in this house.", "Anna's fear is great in this house."),
    ("The address of Anna is known to Paul.", "Paul's address is known to Anna."),
    ("The total of Smith was 50 and Jones was 70.", "Jones's total was 50 and Smith was 70."),
    ("L’hôtel est complet.", "L'hôtel n'est pas complet."),
    ("¿Desea algo más?", "Desea algo más."),
    ("¿Desea algo más?", "¿No desea algo más?"),
    ("Su contraseña es ¡Hola.", "Su contraseña es Hola."),
    ("Escriba: ¡Hola", "Escriba: Hola"),
    ("您的房间号是１２０３。", "您的房间号是1204。"),
    ("您的航班在2026年5月3日。", "您的航班在2026年05月30日。"),
    ("您的航班在2026年5月3日。", "您的航班在2026年5月13日。"),
    ("请打开文件 报告 a.txt", "请打开文件 报告a.txt"),
    ("请点击“保存”。", "请点击「取消」。"),
    ("请点击“保存”，不要点击“取消”。", "请点击「取消」，不要点击「保存」。"),
    ("密码是 “ａ１”。", "密码是 “ａ1”。"),
    ("我们有 3 个房间。", "我们有 30 个房间。"),
]


@pytest.mark.parametrize("one, other", SAME)
def test_the_same_in_another_turn_of_phrase_passes(one: str, other: str) -> None:
    assert compare_messages(one, other, ()).outcome == compare_messages(other, one, ()).outcome == "pass"


@pytest.mark.parametrize("one, other", OTHER)
def test_something_else_in_a_like_turn_of_phrase_does_not_pass(one: str, other: str) -> None:
    assert "pass" not in {compare_messages(one, other, ()).outcome, compare_messages(other, one, ()).outcome}
