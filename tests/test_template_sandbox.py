"""A stranger's chat template cannot walk out of its box, fill the memory or run for ever."""

from __future__ import annotations

import datetime
import time

import pytest

from pivotrl.templates.bounded_jinja import ChatProgram

DATE = datetime.date(2024, 7, 26)
MESSAGES = {"messages": [{"role": "user", "content": "hi"}]}

WALKS = [
    "{{ ''.__class__.__mro__ }}",
    "{{ messages.__class__ }}",
    "{{ ''|attr('__class__') }}",
    "{{ [messages]|map(attribute='__class__')|list }}",
    "{{ raise_exception.__globals__ }}",
    "{{ strftime_now.__self__ }}",
    "{{ cycler.__init__.__globals__.os }}",
    "{{ self._TemplateReference__context }}",
    "{% set box = namespace() %}{{ box.__class__ }}",
    "{{ dict.mro() }}",
    "{{ '%s'.format.__globals__ }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{% extends 'page' %}",
    "{% block a %}{% endblock %}",
    "{{ messages.append(1) }}",
    "{{ lipsum() }}",
]
FLOODS = [
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% for a in range(99999) %}{{ 'x' * 10000 }}{% endfor %}",
    "{% set box = namespace(x='x') %}{% for a in range(99) %}{% set box.x = box.x ~ box.x %}{% endfor %}",
    "{% set box = namespace(x='x') %}{% for a in range(99) %}{% set box.x = box.x + box.x %}{% endfor %}",
    "{% set box = namespace(x=[1]) %}{% for a in range(99) %}{% set box.x = [box.x, box.x] %}{% endfor %}{{ box.x }}",
    "{% set box = namespace(x=7) %}{% for a in range(99) %}{% set box.x = box.x * box.x %}{% endfor %}",
    "{% set box = namespace(x='x') %}{% for a in range(99) %}{% set y %}{{ box.x }}{{ box.x }}{% endset %}"
    "{% set box.x = y %}{% endfor %}",
    "{% set x = 'x' * 9999999 %}{{ x.replace('', x) }}",
    "{% set x = 'x' * 9999999 %}{{ x|replace('x', x) }}",
    "{{ ('x' * 9999999).join(['a'] * 99999) }}",
    "{{ 'a' * 10**10 }}",
    "{{ 10 ** 10 ** 10 }}",
    "{{ '%999999999d' % 1 }}",
    "{{ '{:>999999999}'.format(1) }}",
    "{{ 'a'.center(10 ** 9) }}",
    "{{ 'a'|center(1000000000) }}",
    "{{ (5).to_bytes(1000000000, 'big') }}",
    "{{ [1]|tojson(indent=1000000000) }}",
    "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
    "{% for x in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}",
    "{% macro m() %}" + "x" * 900000 + "{% endmacro %}{% for a in range(9999) %}{% set y = m() %}{% endfor %}",
    "{% set a = 'x' * 9999999 %}{% for b in range(99999) %}{% if 'y' in a %}{% endif %}{% endfor %}",
    "x" * 1_000_001,
    "{% for a in b %}" * 40 + "{% endfor %}" * 40,
    "{% if a %}" * 3000 + "{% endif %}" * 3000,
    "{{ " + "(" * 5000 + ")" * 5000 + " }}",
]


@pytest.mark.parametrize("source", WALKS)
def test_nothing_but_the_data_can_be_reached(source: str) -> None:
    with pytest.raises(ValueError, match="the chat template"):
        ChatProgram(source, DATE).render(MESSAGES)


@pytest.mark.parametrize("source", FLOODS, ids=lambda source: source[:60])
def test_what_does_not_end_or_grows_without_bound_is_stopped(source: str) -> None:
    started = time.process_time()
    with pytest.raises(ValueError, match="chat template"):
        ChatProgram(source, DATE).render(MESSAGES)
    assert time.process_time() - started < 20


def test_a_long_conversation_is_within_the_bounds() -> None:
    source = (
        "{% for m in messages %}{% if messages[loop.index0].role == 'user' and m.content|trim not in ['', 'x'] %}"
        "{{ '<|' + m.role + '|>' + m.content }}{% for call in m.calls %}{{ call|tojson }}{% endfor %}"
        "{% endif %}{% endfor %}"
    )
    messages = [{"role": "user", "content": "word " * 500, "calls": [{"a": "b" * 100}] * 3}] * 1500
    assert len(ChatProgram(source, DATE).render({"messages": messages})) > 3_900_000


def test_the_dialect_is_that_of_transformers() -> None:
    source = (
        "{%- set box = namespace(n=0) -%}{%- for m in messages -%}{%- if m.role == 'tool' -%}{%- continue -%}"
        "{%- endif -%}{%- set box.n = box.n + 1 -%}{%- generation -%}{{ m|tojson }}{%- endgeneration -%}{%- endfor -%}"
        "{{ box.n }} {{ strftime_now('%d %b %Y') }} {{ messages[::-1]|map(attribute='role')|join('+') }}"
    )
    messages = [{"role": "user", "content": 'é <"'}, {"role": "tool"}]
    wanted = '{"role": "user", "content": "é <\\""}1 26 Jul 2024 tool+user'
    assert ChatProgram(source, DATE).render({"messages": messages}) == wanted


def test_a_templates_own_complaint_is_the_reason() -> None:
    program = ChatProgram("{{ raise_exception('roles must\nalternate') }}", DATE)
    with pytest.raises(ValueError, match=r"^the chat template refuses: roles must alternate$"):
        program.render(MESSAGES)
    with pytest.raises(ValueError, match="does not compile: Unexpected end of template"):
        ChatProgram("{% for x in y %}", DATE)
