"""Which code edits pass for the demonstrated one: those after which the file is the same program.

Run alone: python -m pytest tests/test_edit.py
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pivotrl.judging.edits.edits import NotApplied, Replace, apply
from pivotrl.judging.edits.files import surroundings
from pivotrl.protocols import Turn
from pivotrl.readers import auto
from pivotrl.records import Action, Message, Tool, ToolCall, Trajectory
from pivotrl.verifiers import edit

DATA = Path(__file__).parent / "data"

TOTAL = '''import math


def total(values, start=0):
    """Sum of the values."""
    result = start
    for value in values:
        result += value
    return result


def mean(values):
    return total(values) / len(values)
'''
NOTES = "# Notes\n\none\ntwo\ntwo\nthree"


def act(name: str, **arguments: Any) -> Action:
    return Action(tool_calls=(ToolCall(name=name, arguments=json.dumps(arguments)),))


def replace(old: str, new: str, path: str = "/w/a.py", **more: Any) -> Action:
    return act("Edit", file_path=path, old_string=old, new_string=new, **more)


def write(text: str, path: str = "/w/a.py") -> Action:
    return act("Write", file_path=path, content=text)


def numbered(text: str, first: int = 1) -> str:
    return "\n".join(f"{number:6}\t{line}" for number, line in enumerate(text.split("\n"), first))


def viewed(text: str, path: str, first: int = 1) -> tuple[Message, Message]:
    part = {} if first == 1 else {"offset": first, "limit": text.count("\n") + 1}
    call = ToolCall(name="Read", arguments=json.dumps({"file_path": path, **part}), id=f"{path}{first}")
    return (
        Message(role="assistant", tool_calls=(call,)),
        Message(role="tool", content=numbered(text, first), tool_call_id=call.id),
    )


def turn(expected: Action, *seen: tuple[Message, ...], others: tuple[Action, ...] = ()) -> Turn:
    shown = Message(role="assistant", content=expected.content, tool_calls=expected.tool_calls)
    messages = (Message(role="user", content="go"), *(message for pair in seen for message in pair), shown)
    tools = tuple(Tool(name=name) for name in ("Edit", "Write", "MultiEdit", "Read"))
    index = len(messages) - 1
    return Turn(
        Trajectory(id="t", task_id="t", messages=messages, tools=tools, alternatives={index: others} if others else {}),
        index,
    )


SEEN = viewed(TOTAL, "/w/a.py")
LOOP = "    for value in values:\n        result += value\n    return result"
FIX = replace(LOOP, "    return start + sum(values)")


def outcome(expected: Action, actual: Action, *seen: tuple[Message, ...]) -> tuple[str, str]:
    verdict = edit.verify(turn(expected, *(seen or (SEEN,))), actual)
    return verdict.outcome, verdict.reason


# --- the same file ------------------------------------------------------------------------------------------------

AFTER = TOTAL.replace(LOOP, "    return start + sum(values)")
SAME_RESULT = {
    "more context before": replace("    result = start\n" + LOOP, "    result = start\n    return start + sum(values)"),
    "more context after": replace(LOOP + "\n\n\ndef mean", "    return start + sum(values)\n\n\ndef mean"),
    "less context": replace(LOOP[4:], "return start + sum(values)"),
    "the whole file written": write(AFTER),
    "two edits at once": act(
        "MultiEdit",
        file_path="/w/a.py",
        edits=[
            {"old_string": "    for value in values:\n        result += value\n", "new_string": ""},
            {"old_string": "return result", "new_string": "return start + sum(values)"},
        ],
    ),
    "two calls": Action(
        tool_calls=(
            *replace("    for value in values:\n        result += value\n", "").tool_calls,
            *replace("return result", "return start + sum(values)").tool_calls,
        )
    ),
    "another spelling of the path": replace(LOOP, "    return start + sum(values)", path="/w//./a.py"),
    "every one of one": replace(LOOP, "    return start + sum(values)", replace_all=True),
    "with words beside": FIX.model_copy(update={"content": "I fix it."}),
}
SAME_TREE = {
    "a comment": "    return start + sum(values)  # the sum",
    "a comment above": "    # the sum\n    return start + sum(values)",
    "blanks around an operator": "    return start+sum( values )",
    "brackets": "    return (start + sum(values))",
    "several lines": "    return (\n        start\n        + sum(values)\n    )",
    "a comma more": "    return start + sum(values,)",
    "a blank at the end": "    return start + sum(values) ",
    "blank lines": "\n    return start + sum(values)\n\n",
    "a semicolon": "    return start + sum(values);",
    "a broken line": "    return start + \\\n        sum(values)",
    "a comment on a line of its own": "    return start + sum(values)\n# end",
    "a continued call": "    return start + sum(\n        values\n    )",
    "twice in brackets": "    return ((start) + (sum)(values))",
    "a form feed": "    return start + sum(values)\f",
    "the old code as a comment": "    # for value in values:\n    # result += value\n    return start + sum(values)",
    "a comment that lies": "    return start + sum(values)  # rm -rf /",
    "tabs at the end": "    return start + sum(values)\t\t",
    "a comment indented otherwise": "        # sum\n    return start + sum(values)",
    "a comment inside": "    return (start +  # first\n        sum(values))",
}


@pytest.mark.parametrize("actual", SAME_RESULT.values(), ids=SAME_RESULT)
def test_another_way_to_the_same_text_passes(actual: Action) -> None:
    assert outcome(FIX, actual) in {("pass", "same_result"), ("pass", "same_edit")}
    if len(actual.tool_calls) == 1:
        assert edit.verify(turn(actual, SEEN), FIX).outcome == "pass"


@pytest.mark.parametrize("new", SAME_TREE.values(), ids=SAME_TREE)
def test_another_layout_or_comment_passes(new: str) -> None:
    assert outcome(FIX, replace(LOOP, new)) == ("pass", "same_tree")
    assert outcome(replace(LOOP, new), FIX) == ("pass", "same_tree")


PROGRAMS = {
    "a.js": ("function f(a) { return a + 1; }\n", "// f\nfunction f(a) {\n  return a+1;\n}"),
    "b.js": ("const s = `a  b`;\n", "const s=`a  b`;"),
    "c.ts": ("let x: number = 1;\n", "let x : number = 1; // one\n"),
    "d.tsx": ("const a = <b c='1'/>;\n", "const a = <b  c='1' />;\n"),
    "e.json": ('{"a": [1, 2]}\n', '{\n  "a": [\n    1,\n    2\n  ]\n}'),
    "f.go": ("package a\n\nfunc f() int {\n\treturn 1\n}\n", "package a\nfunc f() int { // one\n  return 1 }\n"),
    "g.rs": ("fn f() -> i32 { 1 }\n", "fn f() -> i32 {\n    // one\n    1\n}\n"),
    "i.c": ("int f(void) { return 1; }\n", "int f(void)\n{\n  return 1; // one\n}\n"),
    "j.py": ("x = {'a': 1}\n", 'x = {\n    "a": 1,\n}\n'),
    "k.py": ("def f(a, b): return a\n", "def f(\n  a,\n  b,\n):\n  return a"),
    "l.py": ("x = 1_000\n", "x = 1000\n"),
    "m.css": ("a {\nb: c }\n", "a {  \nb: c }"),
    "n.css": ("a { b: c }\n", "a { b: c }\n\n"),
    "o.toml": ("a = 1\n", "a = 1   \n"),
    "p.mjs": ("export default 1\n", "export default 1\n\n"),
    "q.jsx": ("const a = <b>c</b>;\n", "const a = <b>c</b> ;\n"),
    "r.h": ("#define A 1\nint f(void);\n", "#define A 1\n\nint f( void );\n"),
    "s.pyi": ("def f() -> int: ...\n", "def f() -> int:\n    ...\n"),
    "t.ts": ("import { a, b } from 'c';\n", "import {a,b} from 'c';\n"),
    "u.go": ("package a\n\nvar x = []int{1, 2}\n", "package a\n\n// two\nvar x = []int{1,2}\n"),
    "v.rs": ("struct A { a: u8 }\n", "struct A {\n    a: u8\n}\n"),
    "x.json": ('{"a": "b c"}', '{ "a" : "b c" }\n'),
    "y.c": ("int a[] = {1, 2};\n", "int a[] = { 1,2 };\n"),
    "a1.py": ("x = 'a'\n", 'x = "a"\n'),
    "a2.py": ("x = ('a'\n     'b')\n", "x = 'ab'\n"),
    "a3.py": ("if a: b()\n", "if a:\n  b()\n"),
    "a4.py": ("import a, b\n", "import a , b # two\n"),
    "a5.js": ("f(1, 2);\n", "f(\n  1,\n  2\n);\n"),
    "a6.c": ("/* one */\nint a;\n", "int a;\n"),
    "a7.rs": ("// one\nfn f() {}\n", "fn f() {\n}\n"),
    "a8.go": ('package a\n\nimport "b"\n', 'package a\nimport   "b"\n'),
    "a9.js": ('const a = "x";\n', "const a = 'x'\n"),
    "b1.js": ("const a = [1, 2];\nf(a);\n", "const a = [\n  1,\n  2,\n]\nf(\n  a,\n)\n"),
    "b2.ts": ("const f = x => x + 1;\n", "const f = (x) => (x + 1)\n"),
    "b3.ts": ("interface A { a: string; b: number }\n", "interface A {\n  a: string,\n  b: number,\n}\n"),
    "b4.jsx": ('const a = () => <b c="d" />;\n', "const a = () => (\n  <b c='d' />\n)\n"),
    "b5.js": ("const a = 'it\\'s';\n", 'const a = "it\'s"\n'),
    "b6.js": (
        "import {a} from 'b';\nclass C { x = 1; y() {} }\n",
        'import { a, } from "b"\nclass C { x = 1\n y() {} }',
    ),
    "b7.go": ("package a\n\nvar x = []int{1, 2}\n", "package a\n\nvar x = []int{\n\t1,\n\t2,\n}\n"),
    "b8.rs": ("fn f() { g(1, 2) }\n", "fn f() {\n    g(\n        1,\n        2,\n    )\n}\n"),
    "z.js": ("if (a) { b() } else { c() }\n", "if (a) {\n  b()\n} else {\n  c()\n}\n"),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_other_languages(name: str) -> None:
    one, other = PROGRAMS[name]
    for first, second in ((one, other), (other, one)):
        found = outcome(write(first, "/w/" + name), write(second, "/w/" + name))
        assert found in {("pass", "same_tree"), ("pass", "same_but_blanks")}


PATCH = """--- a/w/a.py
+++ b/w/a.py
@@ -7,3 +7,1 @@
-    for value in values:
-        result += value
-    return result
+    return start + sum(values)
"""
CODEX = """*** Begin Patch
*** Update File: w/a.py
@@ def total(values, start=0):
     \"\"\"Sum of the values.\"\"\"
     result = start
-    for value in values:
-        result += value
-    return result
+    return start + sum(values)
*** End Patch
"""


def patched(text: str) -> Action:
    return act("apply_patch", input=text)


def test_patches_of_both_kinds_are_edits() -> None:
    files = viewed(TOTAL, "w/a.py")
    base = turn(patched(CODEX), files)
    less = CODEX.replace('     """Sum of the values."""\n     result = start\n', "")
    for text in (PATCH, less, PATCH.replace("-7,3 +7,1", "-5,3 +5,1"), "diff --git a/w/a.py b/w/a.py\n" + PATCH):
        assert edit.verify(base, patched(text)).reason == "same_result"
    for text in (
        CODEX.replace("sum(values)", "sum(value)"),
        CODEX.replace("w/a.py", "w/b.py"),
        CODEX.replace("+    return", "     return"),
        CODEX.replace("*** End Patch", ""),
        CODEX.replace("-        result += value\n", ""),
        CODEX.replace("def total", "def totals"),
        CODEX.replace("*** Update File", "*** Delete File"),
        PATCH.replace("result += value", "result = value"),
        PATCH.replace("+7,1", "+7,2"),
        PATCH.replace("+++ b/w/a.py", "+++ b/w/b.py"),
        PATCH + PATCH,
        "",
        "*** Begin Patch\n*** End Patch",
    ):
        assert edit.verify(base, patched(text)).outcome == "fail", text


def test_an_editor_with_commands() -> None:
    def editor(command: str, **arguments: Any) -> Action:
        return act("str_replace_editor", command=command, path="/w/n.txt", **arguments)

    view = ToolCall(name="str_replace_editor", arguments='{"command": "view", "path": "/w/n.txt"}')
    seen = (
        Message(role="assistant", tool_calls=(view,)),
        Message(role="tool", content="ran `cat -n`\n" + numbered(NOTES)),
    )
    inserted = turn(editor("insert", insert_line=2, new_str="zero"), seen)
    for same in (
        editor("insert", insert_line=2, new_str="zero", security_risk="LOW"),
        editor("str_replace", old_str="one", new_str="zero\none"),
        editor("str_replace", old_str="# Notes\n", new_str="# Notes\n\nzero"),
    ):
        assert edit.verify(inserted, same).outcome == "pass", same
    blank = editor("str_replace", old_str="one\n", new_str="zero \none\n")
    assert edit.verify(inserted, blank).reason == "only_blanks_differ"  # in a text they may mean something
    for other in (
        editor("insert", insert_line=3, new_str="zero"),
        editor("insert", insert_line=99, new_str="zero"),
        editor("insert", insert_line=-1, new_str="zero"),
        editor("insert", insert_line=True, new_str="zero"),
        editor("insert", insert_line="2", new_str="zero"),
        editor("insert", new_str="zero"),
        editor("str_replace", old_str="two", new_str="zero"),
        editor("str_replace", old_str="zero", new_str="one"),
        editor("str_replace", old_str="", new_str="zero"),
        editor("str_replace", old_str="one", new_str="one"),
        editor("create", file_text=NOTES.replace("one", "zero\none")),  # it refuses: the file is there
        editor("undo_edit"),
        editor("view"),
        editor("delete"),
        act("str_replace_editor", path="/w/n.txt", old_str="one", new_str="zero\none"),
        editor("str_replace", old_string="one", new_string="zero\none"),
        editor("str_replace", old_str="one", new_str="zero\none", force=True),
    ):
        assert edit.verify(inserted, other).outcome == "fail", other
    removed = turn(editor("str_replace", old_str="one\n", new_str=""), seen)
    assert edit.verify(removed, editor("str_replace", old_str="one\n")).outcome == "pass"


# --- another file -------------------------------------------------------------------------------------------------

SPOILT = {
    "another value": "    return start + sum(values) + 1",
    "a comment for a linter": "    return start + sum(values)  # noqa",
    "a comment for a type checker": "    return start + sum(values)  # type: ignore",
    "a comment for coverage": "    return start + sum(values)  # pragma: no cover",
    "another name": "    return start + sum(value)",
    "another operator": "    return start - sum(values)",
    "another order": "    return sum(values) + start",
    "less": "    return sum(values)",
    "nothing": "",
    "a pass": "    pass",
    "indented less": "return start + sum(values)",
    "indented more": "        return start + sum(values)",
    "a syntax error": "    return start + sum(values",
    "a statement more": "    return start + sum(values)\n    print(1)",
    "a statement before": "    import os; return start + sum(values)",
    "a statement after a comment": "    # fine\n    values = []\n    return start + sum(values)",
    "in a comment": "    # return start + sum(values)",
    "in a string": "    '''return start + sum(values)'''",
    "a docstring more": '    "the sum"\n    return start + sum(values)',
    "a homoglyph": "    return st\u0430rt + sum(values)",
    "an invisible letter": "    return start\u200b + sum(values)",
    "a tab": "\treturn start + sum(values)",
    "a nul": "    return start + sum(values)\0",
    "another function": "    return start + max(values)",
    "a default": "    return start or sum(values)",
    "a keyword": "    return start + sum(values=values)",
    "another quote inside": "    return start + sum(values) or 'a'",
    "yield": "    yield start + sum(values)",
    "tuple": "    return start + sum(values),",
    "unreachable": "    return\n    return start + sum(values)",
    "a nested function": "    def f():\n        return start + sum(values)",
    "unchanged": LOOP,
}
OTHERS = {
    "old text that is not there": replace(LOOP + "x", "    return start + sum(values)"),
    "old text that is there twice": replace("values", "    return start + sum(values)"),
    "another path": replace(LOOP, "    return start + sum(values)", path="/w/b.py"),
    "a path that goes elsewhere": replace(LOOP, "    return start + sum(values)", path="/w/../a.py"),
    "a path with a blank": replace(LOOP, "    return start + sum(values)", path="/w/a.py "),
    "a path of another case": replace(LOOP, "    return start + sum(values)", path="/w/A.py"),
    "old and new swapped": replace("    return start + sum(values)", LOOP),
    "no new text": act("Edit", file_path="/w/a.py", old_string=LOOP),
    "no path": act("Edit", old_string=LOOP, new_string="    return start + sum(values)"),
    "an argument of a wrong type": replace(LOOP, "x").model_copy(
        update={"tool_calls": act("Edit", file_path="/w/a.py", old_string=LOOP, new_string=None).tool_calls}
    ),
    "a flag of a wrong type": replace(LOOP, "    return start + sum(values)", replace_all="true"),
    "names of another agent": act("Edit", path="/w/a.py", old_str=LOOP, new_str="    return start + sum(values)"),
    "an argument that is not known": replace(LOOP, "    return start + sum(values)", mode="force"),
    "a tool of another agent": act(
        "edit_file", file_path="/w/a.py", old_string=LOOP, new_string="    return start + sum(values)"
    ),
    "only the new part written": write("    return start + sum(values)"),
    "the old file written": write(TOTAL),
    "nothing written": write(""),
    "the file with something more": write(AFTER + "print(1)\n"),
    "the file with something less": write(AFTER.replace("import math\n", "")),
    "another file as well": Action(tool_calls=(*FIX.tool_calls, *write("x", "/w/b.py").tool_calls)),
    "another command as well": Action(tool_calls=(*FIX.tool_calls, *act("Bash", command="rm -rf /").tool_calls)),
    "the edit twice": Action(tool_calls=FIX.tool_calls * 2),
    "the edit undone": Action(
        tool_calls=(*FIX.tool_calls, *replace("    return start + sum(values)", LOOP).tool_calls)
    ),
    "words": Action(content="I replace the loop by `return start + sum(values)`."),
    "the call as text": Action(content=FIX.tool_calls[0].arguments),
    "nothing at all": Action(),
    "arguments that are cut": Action(tool_calls=(ToolCall(name="Edit", arguments=FIX.tool_calls[0].arguments[:-3]),)),
    "a key twice": Action(
        tool_calls=(ToolCall(name="Edit", arguments=FIX.tool_calls[0].arguments[:-1] + ', "file_path": "/w/a.py"}'),)
    ),
    "a view": act("Read", file_path="/w/a.py"),
    "many edits of nothing": act("MultiEdit", file_path="/w/a.py", edits=[]),
}
OTHER_PROGRAMS = {
    "a.js": ("return_ = 1;\n", "return_ = 2;\n"),
    "b.js": ("const s = 'a b';\n", "const s = 'a  b';\n"),
    "c.js": ("const s = `a b`;\n", "const s = `a\nb`;\n"),
    "d.js": ("function f() { return 1 }\n", "function f() { return\n1 }\n"),
    "e.js": ("const r = /a b/;\n", "const r = /a  b/;\n"),
    "f.jsx": ("const a = <b>c d</b>;\n", "const a = <b>c  d</b>;\n"),
    "g.ts": ("let x: number = 1;\n", "let x: string = 1;\n"),
    "h.ts": ("let x = 1;\n", "// @ts-ignore\nlet x = 1;\n"),
    "i.json": ('{"a": 1, "b": 2}', '{"b": 2, "a": 1}'),
    "j.json": ('{"a": "b c"}', '{"a": "b  c"}'),
    "k.json": ('{"a": 1}', '{"a": 1.0}'),
    "l.go": ("package a\n", "//go:build linux\n\npackage a\n"),
    "m.go": ('package a\n\nvar s = "a b"\n', 'package a\n\nvar s = "a  b"\n'),
    "n.go": ("package a\n\nvar s = `a b`\n", "package a\n\nvar s = `a\nb`\n"),
    "o.rs": ("fn f() -> i32 { 1 }\n", "fn f() -> i32 { 1; }\n"),
    "p.rs": ('const S: &str = "a b";\n', 'const S: &str = "a  b";\n'),
    "q.java": ("class A { int x = 1; }\n", "class A { int x  = 1; }\n"),  # no grammar: blanks inside lines count
    "s.c": ('char *s = "a b";\n', 'char *s = "a  b";\n'),
    "t.c": ("#define A 1\n", "#define A 2\n"),
    "u.c": ("int f(void) { return 1; }\n", "int f(void) { /* return 1; */ }\n"),
    "v.yaml": ("a:\n  b: 1\n", "a:\n    b: 1\n"),
    "w.yaml": ("a: |\n  b\n", "a: |\n  b  \n"),
    "Makefile": ("a:\n\tb\n", "a:\n    b\n"),
    "x.md": ("a\nb\n", "a  \nb\n"),
    "y.txt": ("a\nb\n", "a\n\nb\n"),
    "z.txt": ("a b\n", "a  b\n"),
    "a.txt": ("a\n", " a\n"),
    "b.py": ('def f():\n    """Doc."""\n', 'def f():\n    """Docs."""\n'),
    "c.py": ("x = 'a b'\n", "x = 'a  b'\n"),
    "d.py": ("x = 'a'\n", "x = b'a'\n"),
    "e.py": ("x = 1\n", "x = 1.0\n"),
    "f.py": ("x = 1\n", "x = True\n"),
    "g.py": ("if a:\n    b()\n    c()\n", "if a:\n    b()\nc()\n"),
    "h.py": ("#!/usr/bin/python\nx = 1\n", "#!/bin/sh\nx = 1\n"),
    "i.py": ("x = '''a\nb'''\n", "x = '''a\n b'''\n"),
    "j.py": ("x = f'{a} b'\n", "x = f'{a}  b'\n"),
    "k.sh": ("rm -rf a\n", "rm -rf a /\n"),
    "l.py": ("x = 1\n", "x = (1,)\n"),
    "m.jsx": ('const a = <b c="\\n"/>;\n', "const a = <b c='\n'/>;\n"),  # markup knows no escapes
    "n.js": ("const a = (b?.c).d;\n", "const a = b?.c.d;\n"),
    "o.js": ("const a = [1,,];\n", "const a = [1,];\n"),
    "p.js": ("f(a)\n;[1].map(b)\n", "f(a)\n[1].map(b)\n"),
    "q.js": ("for (;;) {}\n", "for (;;);\n"),
    "r.rs": ("fn f() { g((1,)) }\n", "fn f() { g((1)) }\n"),
}


@pytest.mark.parametrize("new", SPOILT.values(), ids=SPOILT)
def test_another_program_fails(new: str) -> None:
    verdict = edit.verify(turn(FIX, SEEN), replace(LOOP, new))
    assert verdict.outcome == "fail" and verdict.reward == 0.0


@pytest.mark.parametrize("actual", OTHERS.values(), ids=OTHERS)
def test_another_edit_fails(actual: Action) -> None:
    assert outcome(FIX, actual)[0] == "fail"


@pytest.mark.parametrize("name", OTHER_PROGRAMS)
def test_other_programs_in_other_languages_fail(name: str) -> None:
    one, other = OTHER_PROGRAMS[name]
    for first, second in ((one, other), (other, one)):
        assert outcome(write(first, "/w/" + name), write(second, "/w/" + name)) == ("fail", "different_result")


def test_there_are_enough_of_both() -> None:
    assert len(SAME_RESULT) + len(SAME_TREE) + len(PROGRAMS) >= 60
    assert len(SPOILT) + len(OTHERS) + len(OTHER_PROGRAMS) >= 90


# --- a file that was not seen, or in part -------------------------------------------------------------------------


def test_without_the_file_only_the_same_edit_passes_and_only_another_change_fails() -> None:
    said = turn(FIX)
    assert edit.verify(said, FIX).reason == "same_edit"
    for actual in (
        SAME_RESULT["more context before"],
        SAME_RESULT["less context"],
        write(AFTER),
        replace(LOOP, SAME_TREE["a comment"]),
    ):
        verdict = edit.verify(said, actual)
        assert (verdict.outcome, verdict.reason, verdict.reward) == ("no_verdict", "file_not_seen", None)
    for name in ("another value", "another name", "nothing", "a statement more", "unchanged"):
        assert edit.verify(said, replace(LOOP, SPOILT[name])).outcome == "fail", name
    assert edit.verify(said, replace(LOOP, "    return start + sum(values)", path="/w/b.py")).outcome == "fail"


def test_in_a_file_seen_in_part_less_context_may_not_be_unique() -> None:
    seen = viewed(TOTAL.partition("\n\n\ndef mean")[0], "/w/a.py", 41)
    assert outcome(FIX, SAME_RESULT["more context before"], seen) == ("pass", "same_result")
    assert outcome(FIX, SAME_RESULT["less context"], seen) == ("no_verdict", "file_not_seen")
    assert outcome(FIX, SAME_RESULT["more context after"], seen) == ("no_verdict", "file_not_seen")
    assert outcome(FIX, replace(LOOP, SPOILT["another value"]), seen) == ("fail", "different_result")
    assert outcome(FIX, replace("import math\n", ""), seen)[0] == "fail"


def test_in_a_file_seen_in_part_wrong_indentation_fails() -> None:
    seen = viewed(TOTAL, "/w/a.py", 41)
    assert outcome(FIX, replace(LOOP, SPOILT["indented more"]), seen) == ("fail", "not_python")
    assert outcome(FIX, replace(LOOP, SAME_TREE["a comment"]), seen) == ("no_verdict", "file_not_seen")


def test_the_file_is_followed_through_edits_and_forgotten_when_a_command_may_have_changed_it() -> None:
    def did(action: Action, answer: str) -> tuple[Message, Message]:
        call = action.tool_calls[0].model_copy(update={"id": "c"})
        return Message(role="assistant", tool_calls=(call,)), Message(role="tool", content=answer, tool_call_id="c")

    first = did(replace("return result", "return result + 0"), "The file /w/a.py has been updated.")
    second = replace("return result + 0", "return result")
    assert outcome(second, write(TOTAL), SEEN, first) == ("pass", "same_result")
    refused = did(replace("return result", "return result + 0"), "<tool_use_error>String not found</tool_use_error>")
    assert outcome(second, write(TOTAL), SEEN, refused)[0] == "no_verdict"
    bash = did(act("Bash", command="git checkout ."), "")
    assert outcome(second, write(TOTAL), SEEN, first, bash)[0] == "no_verdict"
    looked = did(act("Bash", command="grep -n result /w/a.py"), "6:    result = start")
    assert outcome(second, write(TOTAL), SEEN, first, looked) == ("pass", "same_result")


def test_the_views_of_agents_are_read() -> None:
    found: dict[str, bool] = {}
    for real in REAL:
        for name, file in surroundings(real.trajectory.messages[: real.index]).files.items():
            found[name] = found.get(name, False) or file.is_whole
    assert found == {
        "/srv/app/a.py": True,
        "/srv/demo/hello.py": True,
        "/SWE-agent__test-repo/tests/missing_colon.py": True,
        "/testbed/reproduce.py": True,
        "/testbed/src/marshmallow/fields.py": False,
        "/testbed/astropy/modeling/separable.py": True,
    }


# --- turns --------------------------------------------------------------------------------------------------------


def test_turns_of_other_kinds_get_no_verdict() -> None:
    for expected in (Action(content="Done."), act("Bash", command="ls"), act("Read", file_path="/w/a.py")):
        for action in (expected, FIX, Action()):
            verdict = edit.verify(turn(expected, SEEN), action)
            assert (verdict.outcome, verdict.reason) == ("no_verdict", "not_an_edit")
    assert edit.verify(turn(Action()), FIX).reason == "no_expected_action"
    assert edit.verify(turn(act("Edit", file_path="/w/a.py")), FIX).reason == "expected_edit_not_readable"


def test_any_accepted_action_will_do() -> None:
    other = replace(LOOP, "    return math.fsum([start, *values])")
    either = turn(FIX, SEEN, others=(other, Action(content="no")))
    for action in (FIX, other, replace(LOOP, "    return math.fsum([start, *values])  # exact")):
        assert edit.verify(either, action).outcome == "pass"
    assert edit.verify(either, replace(LOOP, "    return 1")).outcome == "fail"


def real_turns() -> Iterator[Turn]:
    for path in sorted([*DATA.glob("formats/*/*"), *DATA.glob("nemo_gym/*.jsonl")]):
        if path.parent.name == "bench":
            continue  # a folder with the files of a benchmark beside its logs
        if path.suffix in (".md", ".py") or "tau" in path.parent.name or path.name == "requests.json":
            continue
        for item in auto.read(path):
            if isinstance(item, Trajectory):
                for index, message in enumerate(item.messages):
                    if message.role == "assistant":
                        yield Turn(item, index)


REAL = [t for t in real_turns() if edit.verify(t, t.expected_action).reason != "not_an_edit"]


def test_the_samples_hold_edits_of_several_agents() -> None:
    assert {call.name for t in REAL for call in t.expected_action.tool_calls} == {
        *("Edit", "apply_patch", "create", "edit", "edit_file", "file_editor", "str_replace_editor")
    }


@pytest.mark.parametrize("turn", REAL, ids=lambda turn: turn.id)
def test_real_edits(turn: Turn) -> None:
    """Each passes against itself; with a word more in any of its texts, or at another place, it does not."""
    expected = turn.expected_action
    assert edit.verify(turn, expected).outcome == "pass"
    call = expected.tool_calls[0]
    arguments = json.loads(call.arguments)
    for name, value in arguments.items():
        if isinstance(value, str) and name not in ("security_risk", "summary", "command"):
            changed = json.dumps({**arguments, name: value + "z"})
            action = Action(tool_calls=(call.model_copy(update={"arguments": changed}),))
            verdict = edit.verify(turn, action)
            # One real edit ends with a comment, in a file that was seen in part.
            assert verdict.outcome == "fail" or (turn.index == 16 and verdict.reason == "file_not_seen"), name


def test_a_real_edit_that_was_mended_fails_before_and_passes_after() -> None:
    """SWE-agent's editor refused the first attempt for its indentation; the second is the demonstration."""
    path = DATA / "formats/swe_agent/marshmallow-1867_function_calling.traj"
    (item,) = auto.read(path)
    assert isinstance(item, Trajectory)
    first, second = Turn(item, 14), Turn(item, 16)
    assert edit.verify(second, first.expected_action).outcome == "fail"
    assert edit.verify(second, second.expected_action).outcome == "pass"


# --- properties ---------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    st.text(alphabet="ab\n ", max_size=30), st.text(alphabet="ab\n ", max_size=8), st.text(alphabet="ab\n ", max_size=8)
)
def test_a_replacement_says_which_text_it_makes(text: str, old: str, new: str) -> None:
    """Context on both sides changes nothing; and whole files are equal exactly when the replacements' results are."""
    try:
        made = apply(Replace("/w/a.txt", old, new), text)
    except NotApplied as error:
        assert str(error) != "old_not_found" or old not in text
        return
    if text:
        place = text.find(old)
        wider = Replace("/w/a.txt", text[max(0, place - 3) : place] + old, text[max(0, place - 3) : place] + new)
        assert apply(wider, text) == made
        assert made is not None and len(made) == len(text) - len(old) + len(new)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(SPOILT)), st.sampled_from(sorted(SAME_TREE)), st.sampled_from(sorted(SPOILT)))
def test_symmetric_and_reflexive(one: str, two: str, three: str) -> None:
    actions = [
        replace(LOOP, text)
        for text in (SPOILT[one], SAME_TREE[two], SPOILT[three])
        if text != LOOP and "\0" not in text
    ]
    for first in actions:
        assert outcome(first, first)[0] == "pass"
        for second in actions:
            assert (outcome(first, second)[0] == "pass") == (outcome(second, first)[0] == "pass")


# --- cost ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.py", "a.rs", "a.ts", "a.txt"])
@pytest.mark.parametrize(
    "text",
    ["(" * 19_000, "-" * 19_000 + "1", "[" * 19_000 + "]" * 19_000, "/*" * 19_000, "'" * 39_001, "x = 1\n" * 6_000]
    + [
        "a<" * 19_000,
        "x" * 2_000_000,
        "if a:\n " * 5_000,
        "{" * 19_000,
        "\\\n" * 19_000,
        "a(" * 19_000 + ")" * 19_000,
    ],
    ids=["round", "minus", "square", "comments", "quotes", "long", "angles", "huge", "ifs", "curly", "joins", "calls"],
)
def test_a_hostile_text_costs_little(name: str, text: str) -> None:
    start = time.perf_counter()
    path = "/w/" + name
    assert outcome(write("x", path), write(text, path))[0] == "fail"
    assert outcome(write(text + " ", path), write(text, path))[0] in ("pass", "fail", "no_verdict")
    assert outcome(replace("x", "y", path), replace(text, text + "y", path))[0] in ("fail", "no_verdict")
    assert time.perf_counter() - start < 8.0


def test_an_edit_that_would_make_a_huge_file_is_not_made() -> None:
    text = "a" * 10_000
    huge = replace("a", "b" * 100_000, "/w/a.txt", replace_all=True)
    assert outcome(replace(text, "b", "/w/a.txt"), huge, viewed(text, "/w/a.txt")) == ("fail", "too_large")
