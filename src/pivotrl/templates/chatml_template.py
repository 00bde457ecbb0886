"""Our ChatML as a chat template of transformers, for those who load an exported policy without pivotrl."""

from __future__ import annotations

from pivotrl.templates.chatml import TOOL_PROMPT

_BEFORE_TOOLS, _AFTER_TOOLS = TOOL_PROMPT.format(tools="\0").split("\0")

CHATML_TEMPLATE = (
    "{%- set held = namespace(system=none) -%}"
    "{%- if tools -%}"
    "{%- set lines = namespace(text='') -%}"
    "{%- for tool in tools -%}"
    "{%- set lines.text = lines.text ~ ('' if loop.first else '\\n') ~ (tool | tojson) -%}"
    "{%- endfor -%}"
    f"{{%- set held.system = {_BEFORE_TOOLS!r} ~ lines.text ~ {_AFTER_TOOLS!r} -%}}"
    "{%- endif -%}"
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'system' -%}"
    "{%- set held.system = (message['content'] or '') ~ ('' if held.system is none else '\\n\\n' ~ held.system) -%}"
    "{%- else -%}"
    "{%- if held.system is not none -%}"
    "{{- '<|im_start|>system\\n' ~ held.system ~ '<|im_end|>\\n' -}}"
    "{%- set held.system = none -%}"
    "{%- endif -%}"
    "{%- if message['role'] == 'tool' -%}"
    "{{- '<|im_start|>user\\n<tool_response>\\n' ~ (message['content'] or '') ~ '\\n</tool_response>' -}}"
    "{%- else -%}"
    "{{- '<|im_start|>' ~ message['role'] ~ '\\n' ~ (message['content'] or '') -}}"
    "{%- for call in message['tool_calls'] or [] -%}"
    "{%- set function = call['function'] -%}"
    "{{- '\\n' if message['content'] or not loop.first -}}"
    """{{- '<tool_call>\\n{"name": ' ~ (function['name'] | tojson) ~ ', "arguments": ' -}}"""
    "{{- function['arguments'] if function['arguments'] is string else function['arguments'] | tojson -}}"
    "{{- '}\\n</tool_call>' -}}"
    "{%- endfor -%}"
    "{%- endif -%}"
    "{{- '<|im_end|>\\n' -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if held.system is not none -%}{{- '<|im_start|>system\\n' ~ held.system ~ '<|im_end|>\\n' -}}{%- endif -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
"""Writes what :class:`pivotrl.templates.chatml.ChatML` writes with its default, thoughts of earlier turns left out."""
