"""Which shell commands pass for the demonstrated one: spellings of it, and nothing that does anything else.

Run alone: python -m pytest tests/test_command.py
"""

import json
import random
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pivotrl.judging.shell.commands import normal_command, same_command
from pivotrl.judging.shell.syntax import Simple, read_command
from pivotrl.judging.shell.words import NotUnderstood, literal
from pivotrl.protocols import Turn
from pivotrl.readers import auto
from pivotrl.records import Action, Message, ToolCall, Trajectory
from pivotrl.verifiers import command

DATA = Path(__file__).parent / "data"
BASH = shutil.which("bash")


def turn(expected: Action, *others: Action, seen: str = "go") -> Turn:
    shown = Message(role="assistant", content=expected.content, tool_calls=expected.tool_calls)
    messages = (Message(role="user", content=seen), shown)
    return Turn(Trajectory(id="t", task_id="t", messages=messages, alternatives={1: others} if others else {}), 1)


def run(text: Any, tool: str = "bash", **others: Any) -> Action:
    return Action(tool_calls=(ToolCall(name=tool, arguments=json.dumps({"command": text, **others})),))


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


REAL = [t for t in real_turns() if command.verify(t, t.expected_action).reason != "not_a_command"]


# --- the same command ---------------------------------------------------------------------------------------------

VARIANTS = r"""
ls -la                                     | ls -l -a
ls -la                                     | ls -al
ls -la src                                 | ls src -la
ls --all -l                                | ls -la
cat 'a b'                                  | cat "a b"
cat 'a b'                                  | cat a\ b
cat 'a b'                                  | cat a' 'b
cat hello.py                               | cat   hello.py
cat hello.py                               | cat ./hello.py
cat hello.py                               | cat hello.py # look at it
cat hello.py                               | cat hello.py;
cat hello.py                               | "cat" 'hello.py'
cat hello.py                               | \cat hello.py
cat hello.py                               | command cat hello.py
cat hello.py                               | env cat hello.py
cat -n a.py                                | cat --number a.py
cat src/a.py                               | cat src//a.py
cat src/a.py                               | cat src/./a.py
cd /testbed && ls                          | cd /testbed/ && ls
cd src && ls                               | cd ./src/ && ls
grep -rn "foo bar" src                     | grep -nr 'foo bar' src
grep -rn "foo bar" src                     | grep -r -n foo\ bar ./src
grep -rn "foo bar" src                     | grep --recursive --line-number 'foo bar' src
grep -rn foo src                           | grep foo -rn src
grep -rn foo src                           | grep -rn -e foo src -- |x
grep -n -A 3 foo a.py                      | grep -A 3 -n foo a.py
grep -n -A 3 foo a.py                      | grep -nA3 foo a.py
grep -n -A 3 foo a.py                      | grep --after-context=3 -n foo a.py
grep -n 'def f($' a.py                     | grep -n "def f($" a.py
grep -rn --include='*.py' foo .            | grep -rn --include="*.py" foo .
grep -v x a.py | wc -l                     | grep -v 'x' a.py|wc --lines
head -n 5 a.py                             | head -5 a.py
head -n 5 a.py                             | head -n5 a.py
head -n 5 a.py                             | head --lines=5 a.py
head -n 5 a.py                             | head a.py -n 5
sed -n '1,5p' a.py                         | sed -n 1,5p a.py
sed -i 's/a/b/' a.py                       | sed -i "s/a/b/" ./a.py
sed -i 's/a/b/' a.py                       | sed -i -e s/a/b/ a.py |x
sed -i -e 's/a/b/' -e 's/c/d/' a.py        | sed -e s/a/b/ -i -e s/c/d/ a.py
rm -rf build                               | rm -fr build
rm -rf build                               | rm -r -f ./build
rm -rf build                               | rm -Rf build
rm -rf -- build                            | rm -rf build
cp -r a b                                  | cp a b -r
mkdir -p a/b                               | mkdir -p a/b/
mkdir -p a/b                               | mkdir --parents a//b
chmod +x run.sh                            | chmod '+x' ./run.sh
python a.py --x 1                          | python ./a.py --x '1'
python -c 'print("a")'                     | python -c "print(\"a\")"
python -m pytest -x -q tests               | python -m pytest -q -x tests/
pytest -x tests/test_a.py::test_b          | pytest ./tests/test_a.py::test_b -x
pytest -k 'a and b' -v                     | pytest -v -k "a and b"
pytest -vv --tb=short                      | pytest --tb short -v -v
pip install -e . --no-deps                 | pip install --no-deps -e .
git commit -am 'fix it'                    | git commit -a -m "fix it"
git commit -m 'fix it'                     | git commit --message='fix it'
git log --oneline -5                       | git log -n 5 --oneline
git diff HEAD~1 -- a.py                    | git diff 'HEAD~1' -- a.py
git add a.py b.py                          | git add ./a.py ./b.py
git status --short                         | git status -s
find . -name '*.py'                        | find . -name "*.py"
find . -name '*.py'                        | find . -name \*.py
find . -name x -exec rm {} \;              | find . -name x -exec rm '{}' ';'
find . \( -name a -o -name b \)            | find . '(' -name a -o -name b ')'
echo "$HOME/x"                             | echo "${HOME}/x"
echo "$HOME/x y"                           | echo "$HOME"'/x y'
echo `date`                                | echo $(date)
echo "$(ls -la)"                           | echo "$( ls -a -l )"
echo a > out.txt                           | echo a >out.txt
echo a > out.txt                           | > out.txt echo a
echo a > out.txt                           | echo a 1> "out.txt"
make 2>&1 | tail -n 3                      | make 2>&1 | tail -3
make > log 2>&1                            | make 1>log 2>&1
FOO='a b' make                             | FOO="a b" make
(cd a && ls -l -a)                         | ( cd a && ls -la )
for f in a b; do cat $f; done              | for f in a b\ndo\n  cat $f\ndone
if true; then ls; else pwd; fi             | if true\nthen\n ls\nelse\n pwd\nfi
a && b                                     | a &&\n  b
a; b                                       | a\nb
a; b                                       | a # one\n\nb
ls -l \\n -a                               | ls -la
cat <<'EOF' > a\nx $y\nEOF                 | cat << "END" >a\nx $y\nEND
cat <<EOF\nplain\nEOF                      | cat << 'EOF'\nplain\nEOF
tail -f log &                              | tail -f 'log' &
"""


def pairs(table: str) -> list[tuple[str, str]]:
    found = []
    for line in table.strip("\n").split("\n"):
        if line.endswith("|x"):
            continue
        left, right = line.split("  | ", 1)
        found.append((left.rstrip().replace("\\\\n", "\\\n").replace("\\n", "\n"), right.replace("\\n", "\n")))
    return found


@pytest.mark.parametrize(("expected", "actual"), pairs(VARIANTS))
def test_an_honest_variant_passes(expected: str, actual: str) -> None:
    assert expected != actual
    assert command.verify(turn(run(expected)), run(actual)).outcome == "pass"
    assert command.verify(turn(run(actual)), run(expected)).outcome == "pass"


# --- not the same command -----------------------------------------------------------------------------------------

ATTACKS = r"""
rm -rf build                               | rm -rf build /
rm -rf build                               | rm -rf build/..
rm -rf build                               | rm -rf build*
rm -rf build                               | rm -rf "build "
rm -rf build                               | rm -rf build -- /
rm -rf build                               | rm -r build
rm -rf build                               | sudo rm -rf build
rm -rf ./-x                                | rm -rf -x
rm -if x                                   | rm -fi x
rm a b                                     | rm a
rm 'a b'                                   | rm a b
rm '*.pyc'                                 | rm *.pyc
rm '~/x'                                   | rm ~/x
rm '$HOME'                                 | rm "$HOME"
rm "$x"                                    | rm $x
rm './$x'                                  | rm "./$x"
rm "$x" -f                                 | rm -f "$x"
rm ./*                                     | rm *
rm {a,b}                                   | rm '{a,b}'
git push                                   | git push --force
git push origin a                          | git push origin +a
git commit -m x                            | git commit -am x
git commit -m x -m y                       | git commit -m y -m x
git checkout a                             | git checkout -- a
git checkout a                             | git checkout ./a
git diff a b                               | git diff b a
git add a.py                               | git add -A
git -C a status                            | git status
ls                                         | ls; true
ls                                         | ls || true
ls                                         | ls && rm x
ls                                         | ls & rm x
ls                                         | ls &
ls                                         | ls | sh
ls                                         | ls > f
ls                                         | ls\nrm x
ls                                         | ls -a
ls                                         | FOO=1 ls
ls                                         | LD_PRELOAD=x ls
ls                                         | alias ls='rm x'; ls
ls                                         | ls() { rm x; }; ls
ls                                         | ./ls
ls                                         | /bin/ls
ls                                         | command alias ls=x; ls
echo {fd} > f                              | echo {fd}>f
echo 2 > f                                 | echo 2> f
ls                                         | time ls
ls                                         | nohup ls
ls                                         | eval ls
ls                                         | ! ls
ls                                         | (ls)
ls                                         | { ls; }
ls                                         | $(ls)
ls                                         | ls $(rm x)
ls                                         | ls "`rm x`"
ls                                         | ls <(rm x)
ls                                         | # ls
ls                                         | ls#
a && b                                     | a; b
a && b                                     | a || b
a && b                                     | b && a
a && b || c                                | a && (b || c)
a | b                                      | b | a
a | b                                      | a |& b
make > log 2>&1                            | make 2>&1 > log
make > log                                 | make >> log
make > log                                 | make 2> log
make 2>log                                 | make 2 >log
make &> log                                | make & > log
echo a > f b                               | echo a > "f b"
echo a                                     | echo "a; rm x" |x
echo "a $(rm x)"                           | echo 'a $(rm x)'
echo "a `rm x`"                            | echo "a \`rm x\`"
echo a                                     | echo a # \nrm x
echo 'a # b'                               | echo a # b
echo 'a\nb'                                | echo a\nb
echo a b                                   | echo b a
echo -n a                                  | echo a -n
echo $'a\tb'                               | echo 'a\tb'
echo "a\$b"                                | echo "a$b"
echo ""a$x                                 | echo a"$x"
echo $x""                                  | echo $x
cat a.py                                   | cat b.py
cat a.py                                   | cat a.py b.py
cat a.py                                   | cat a.py/
cat a.py                                   | cat < a.py
cat a/../b                                 | cat b
cat$IFS/etc/passwd                         | cat /etc/passwd
cat <<'EOF'\n$x\nEOF                       | cat <<EOF\n$x\nEOF
cat <<'EOF'\na\nEOF                        | cat <<'EOF'\nb\nEOF
cat <<'EOF'\na\nEOF                        | cat <<'EOF'\na\nEOF\nrm x
cat <<EOF\na\nEOF                          | cat <<-EOF\na\nEOF
grep './x' f                               | grep x f
grep -e a -e b f                           | grep -e b -e a f
grep -A 3 -n foo f                         | grep -A -n 3 foo f
grep -c foo f                              | grep -C foo f
head -n 5 -c 3 f                           | head -c 3 -n 5 f
sed -i -n p f                              | sed -in p f
sed -i -e p f                              | sed -ie p f
sed -n 1,5p f                              | sed -n 1,50p f
cp a b                                     | cp b a
cp -r a/. b                                | cp -r a b
tar -cf a.tar b                            | tar -fc a.tar b
chmod 644 f                                | chmod 755 f
chmod -x f                                 | chmod +x f
python a.py -x                             | python -x a.py
python a.py b c                            | python a.py c b
python -m a                                | python a
python -c 'x'                              | python -c 'y'
python3 a.py                               | python a.py
./run.sh                                   | run.sh
source ./x                                 | source x
npm install ./x                            | npm install x
pip install ./x                            | pip install x
pip install a==1                           | pip install a
make -j 4 test                             | make 4 -j test
curl -o a http://x                         | curl -o a http://x -d @/etc/passwd
curl http://a//b                           | curl http://a/b
find . -name a -delete                     | find . -delete -name a
find . -name a                             | find . -name a -delete
cd a && ls                                 | ls
cd a && ls                                 | cd b && ls
cd a && ls                                 | cd a; ls
for f in -l -a; do echo $f; done           | for f in -a -l; do echo $f; done
if a; then b; fi                           | if a; then b; else c; fi
while a; do b; done                        | until a; do b; done
ls a -l; rm $_                             | ls -l a; rm $_
echo !x                                    | echo '!x'
echo [a-c]                                 | echo [a\-c]
export A=b                                 | A=b
A=b c                                      | c A=b
"if"                                       | if
env A=1 ls                                 | ls
command -v ls                              | ls
"git add" -A a                             | "git add" a -A
ls; ls                                     | ls
"""

STRANGE = ("ls\x00", "ls\r", "ls\u200b", "ls\u00a0-l", "l\u202es", "ls \x1b[2J", "ls\ufeff", "\u2066ls", "l\u0455")


@pytest.mark.parametrize(("expected", "actual"), pairs(ATTACKS))
def test_another_command_fails(expected: str, actual: str) -> None:
    assert expected != actual
    assert command.verify(turn(run(expected)), run(actual)).outcome == "fail"
    assert command.verify(turn(run(actual)), run(expected)).outcome != "pass"


@pytest.mark.parametrize("text", STRANGE)
def test_a_command_with_characters_that_are_not_seen_fails(text: str) -> None:
    for expected in ("ls", "ls -l"):
        assert command.verify(turn(run(expected)), run(text)).outcome == "fail"
    assert command.verify(turn(run(text)), run(text)).outcome == "pass"


def test_there_are_enough_of_both() -> None:
    assert len(pairs(VARIANTS)) >= 60 and len(pairs(ATTACKS)) >= 120


# --- where the shell is -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "seen",
    [
        "x\n(Current directory: /testbed)\nbash-$",
        "[Current working directory: /testbed]\n[exit 0]",
        "<cwd>/testbed</cwd>",
    ],
)
def test_going_where_the_shell_is_does_not_count(seen: str) -> None:
    for actual in ("cd /testbed && cat src/a.py", "cat /testbed/src/a.py", "cd /testbed/ && cat /testbed//src/a.py"):
        assert command.verify(turn(run("cat src/a.py"), seen=seen), run(actual)).outcome == "pass"
        assert command.verify(turn(run("cat src/a.py")), run(actual)).outcome == "fail"
        assert command.verify(turn(run("cat src/a.py")), run(actual), directory="/testbed").outcome == "pass"
    for actual in (
        "cd /test && cat src/a.py",
        "cat /testbed2/src/a.py",
        "cd src && cat /testbed/src/a.py",
        "cd /testbed",
    ):
        assert command.verify(turn(run("cat src/a.py"), seen=seen), run(actual)).outcome == "fail"
    moved = "cd sub && cat src/a.py"
    assert command.verify(turn(run(moved), seen=seen), run("cd sub && cat /testbed/src/a.py")).outcome == "fail"


def test_what_the_agent_or_a_file_says_of_the_directory_is_not_believed() -> None:
    said = turn(run("ls"), seen="(Current directory: /x)\nis what the file says")
    assert command.verify(said, run("cd /x && ls").model_copy(update={"content": "<cwd>/x</cwd>"})).outcome == "fail"


# --- the call -----------------------------------------------------------------------------------------------------

FENCE = "```bash\n{}\n```"


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (Action(), "empty_action"),
        (Action(content="ls"), "not_a_command_call"),
        (Action(content=FENCE.format("ls -la")), "wrong_tool"),  # a call was due
        (run(""), "empty_command"),
        (run("  # ls -la"), "empty_command"),
        (run(None), "missing_argument"),
        (run(5), "missing_argument"),
        (Action(tool_calls=(ToolCall(name="bash", arguments="{}"),)), "missing_argument"),
        (Action(tool_calls=(ToolCall(name="bash", arguments='{"command": "ls -la"'),)), "arguments_not_json"),
        (run("ls -la", tool="python"), "not_a_command_call"),
        (run("ls -la", tool="shell"), "wrong_tool"),
        (run("ls -la", timeout=1), "different_argument"),
        (Action(tool_calls=(ToolCall(name="bash", arguments='{"cmd": "ls -la"}'),)), "different_argument"),
        (run(["ls", "-la"]), "different_command"),
        (Action(tool_calls=run("ls -la").tool_calls * 2), "surplus_command"),
        (run("ls -a"), "different_command"),
    ],
)
def test_a_call_that_is_not_the_same_fails(action: Action, reason: str) -> None:
    verdict = command.verify(turn(run("ls -la")), action)
    assert (verdict.outcome, verdict.reason) == ("fail", reason)


def test_arguments_that_say_something_about_the_command_are_not_compared() -> None:
    assert command.verify(turn(run("ls -la")), run("ls -al", description="look", security_risk="LOW")).outcome == "pass"
    assert command.verify(turn(run("ls", timeout=1)), run("ls", timeout=True)).outcome == "fail"
    assert command.verify(turn(run("ls")), run("ls", timeout=1), ignore_arguments=["timeout"]).outcome == "pass"


def test_turns_of_other_kinds_get_no_verdict() -> None:
    for expected in (Action(content="Done."), run("x", tool="edit"), Action(content='{"a": 1}')):
        for action in (expected, run("ls"), Action()):
            verdict = command.verify(turn(expected), action)
            assert (verdict.outcome, verdict.reason) == ("no_verdict", "not_a_command")
    assert command.verify(turn(Action()), run("ls")).reason == "no_expected_action"


def test_any_accepted_action_will_do() -> None:
    either = turn(run("ls"), run("git status -s"))
    assert command.verify(either, run("git status --short")).outcome == "pass"
    assert command.verify(either, run("pwd")).outcome == "fail"
    assert command.verify(turn(Action(content="Done."), run("ls -la")), run("ls -al")).outcome == "pass"


def test_words_are_compared_as_words_and_a_script_among_them_as_a_command() -> None:
    assert command.verify(turn(run(["ls", "-la"])), run(["ls", "-la"])).outcome == "pass"
    assert command.verify(turn(run(["ls", "a b"])), run(["ls", "a", "b"])).outcome == "fail"
    script = turn(run(["bash", "-lc", "ls -la 'a b'"]))
    assert command.verify(script, run(["bash", "-lc", 'ls -al "a b"'])).outcome == "pass"
    for words in (["bash", "-c", "ls -la 'a b'"], ["bash", "-lc", "ls -la 'a b'", "x"], ["zsh", "-lc", "ls -la 'a b'"]):
        assert command.verify(script, run(words)).outcome == "fail"


def test_a_code_block_and_the_keys_of_a_terminal_are_commands() -> None:
    block = turn(Action(content="Look.\n\n" + FENCE.format("ls -la 'x y'")))
    assert command.verify(block, Action(content=FENCE.format('ls -al "x y"'))).outcome == "pass"
    for content in (FENCE.format("ls"), FENCE.format("ls -la 'x y'")[:-3], "ls -la 'x y'", FENCE.format("ls") * 2):
        assert command.verify(block, Action(content=content)).outcome == "fail"
    assert command.verify(block, run("ls -la 'x y'")).outcome == "fail"

    def typed(*keys: str, **more: Any) -> Action:
        return Action(
            content=json.dumps({"analysis": "", "plan": "", "commands": [{"keystrokes": k} for k in keys], **more})
        )

    keys = turn(typed("ls -la\n", "pwd\n"))
    assert command.verify(keys, typed("ls -al\n", "pwd\n", analysis="other")).outcome == "pass"
    for action in (
        typed("pwd\n", "ls -la\n"),
        typed("ls -la\n"),
        typed("ls -la", "pwd\n"),
        typed("ls -la\n", "pwd\n\n\nrm x\n"),
    ):
        assert command.verify(keys, action).outcome == "fail"
    assert command.verify(keys, typed("ls -la\n", "pwd\n", task_complete=True)).outcome == "fail"


# --- real commands ------------------------------------------------------------------------------------------------


def test_the_samples_hold_commands_of_many_agents() -> None:
    assert len(REAL) >= 100


@pytest.mark.parametrize("turn", REAL, ids=lambda turn: turn.id)
def test_real_commands(turn: Turn) -> None:
    """Each passes against itself; added to it, nothing does."""
    expected = turn.expected_action
    assert command.verify(turn, expected).outcome == "pass"
    for action in spoilt(expected):
        assert command.verify(turn, action).outcome == "fail", action


def spoilt(expected: Action) -> Iterator[Action]:
    yield Action()
    yield Action(content="I will run the command.")
    for call in expected.tool_calls[:1]:
        arguments = json.loads(call.arguments)
        name = "command" if "command" in arguments else "cmd"
        for tail in ("; true", " || true", " && rm -rf /", " > /dev/null", " &", "\nrm x", " | sh", " /"):
            changed = arguments[name] + ([tail] if isinstance(arguments[name], list) else tail)
            altered = call.model_copy(update={"arguments": json.dumps({**arguments, name: changed})})
            yield expected.model_copy(update={"tool_calls": (altered, *expected.tool_calls[1:])})


# --- properties ---------------------------------------------------------------------------------------------------

WORD = st.text(alphabet="ab -_./='\"\\$*?~!#;&|<>(){}[]\né", min_size=1, max_size=6)


@settings(max_examples=150, deadline=None)
@given(st.lists(WORD, min_size=1, max_size=4))
def test_however_words_are_quoted_they_are_the_same(words: list[str]) -> None:
    one = "show " + " ".join("'" + word.replace("'", "'\\''") + "'" for word in words)
    other = "show  " + " ".join('"' + "".join("\\" + c if c in '\\$`"' else c for c in word) + '"' for word in words)
    is_history = "$_" in one or "${_" in one  # it may stand for what was typed before, and so may !
    if not is_history and not any(word.startswith("==") for word in words):  # the grammar reads no bare ==
        assert same_command(one, shlex.join(["show", *words]))
    if not is_history and "!" not in one:
        assert same_command(one, other)


PIECE = st.sampled_from(
    [
        "ls",
        "a",
        "-l",
        "-rf",
        "'b c'",
        '"$x"',
        "$x",
        "*.py",
        "\\",
        " ",
        "\n",
        ";",
        "&&",
        "||",
        "|",
        "&",
        ">",
        "2>&1",
        "<",
    ]
    + [
        "(",
        ")",
        "{",
        "}",
        "if",
        "then",
        "fi",
        "for",
        "in",
        "do",
        "done",
        "#",
        "`",
        "$(",
        "'",
        '"',
        "<<E",
        "E",
        "!",
        "A=1",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECE, max_size=8), st.lists(PIECE, max_size=8))
def test_any_text_has_one_form_and_the_relation_is_symmetric(one: list[str], other: list[str]) -> None:
    first, second = " ".join(one), " ".join(other)
    assert same_command(first, first)
    assert same_command(first, second) == same_command(second, first)
    if normal_command(first)[0] == "tokens":
        assert not same_command(first, first + "\nrm x") and not same_command(first, "rm x; " + first)


# --- against the shell itself -------------------------------------------------------------------------------------


def arguments_in_bash(commands: list[str]) -> list[list[str]]:
    """What each command, which must begin with `show`, is given by bash. Nothing else is run."""
    script = 'show() { printf \'%s\\0\' "$#" "$@"; }\n' + "".join(f"{text}\n" for text in commands)
    done = subprocess.run(
        [str(BASH), "--noprofile", "--norc", "-f", "-c", script], capture_output=True, check=True, timeout=60, env={}
    )
    assert not done.stderr, done.stderr[:300]
    items = iter(done.stdout.decode().split("\0")[:-1])
    return [[next(items) for _ in range(int(count))] for count in items]


@pytest.mark.skipif(BASH is None, reason="needs bash")
@pytest.mark.parametrize("seed", range(4))
def test_words_are_those_that_bash_passes_on(seed: int) -> None:
    """Random quoting: what is understood as plain words is exactly the arguments that bash makes of it."""
    draw = random.Random(seed)
    pieces = [
        "a",
        "b",
        "-x",
        "=",
        "é",
        " ",
        "  ",
        "'",
        "'",
        '"',
        '"',
        "\\",
        "\\\n",
        "#",
        " #",
        ",",
        ":",
        ".",
        "/",
        "%",
        "]",
        "'c d'",
    ]
    commands, expected, num_drawn = [], [], 0
    while len(commands) < 400:
        num_drawn += 1
        text = "show " + "".join(draw.choice(pieces) for _ in range(draw.randint(1, 9)))
        try:
            tokens = read_command(text)
        except NotUnderstood:
            continue
        words = [literal(word) for word in tokens[0].words] if isinstance(tokens[0], Simple) else [None]
        if len(tokens) == 1 and all(word is not None for word in words) and words[0] == "show":
            commands.append(text)
            expected.append([word for word in words[1:] if word is not None])
    assert arguments_in_bash(commands) == expected
    assert num_drawn < 4 * len(commands)  # most of what can be read is


@pytest.mark.skipif(BASH is None, reason="needs bash")
def test_what_passes_for_the_same_expands_to_the_same() -> None:
    """Random pairs with variables in them: those held to be equal give equal arguments, whatever the variable is."""
    draw = random.Random(7)
    pieces = ["a", "b", '"', "'", "$x", '"$x"', "${x}", "\\ ", " ", '""', "$", "'$x'", "\\$x"]
    texts = ["show " + "".join(draw.choice(pieces) for _ in range(draw.randint(1, 4))) for _ in range(3000)]
    groups: dict[Any, set[str]] = {}
    for text in texts:
        form = normal_command(text)
        if form[0] == "tokens" and len(form) == 2:
            groups.setdefault(form, set()).add(text)
    same = [sorted(group) for group in groups.values() if len(group) > 1]
    assert len(same) > 50
    for value in ("", "p q", "z"):
        made = iter(arguments_in_bash([f"x={shlex.quote(value)}; {text}" for group in same for text in group]))
        for group in same:
            found = [next(made) for _ in group]
            assert all(arguments == found[0] for arguments in found), group


# --- cost ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        *("ls " + "a " * 15_000, "$(" * 15_000, "(" * 15_000 + "ls" + ")" * 15_000, "{ " * 15_000, "'" * 30_001),
        *("${x:-" * 6_000, "cat <<A\n" * 4_000, "a && " * 6_000 + "a", "if " * 10_000, "[[ " * 10_000, "`" * 30_000),
        *("x=" * 15_000, "<(" * 15_000, "$((" * 10_000, "case x in " * 3_000, "\\\n" * 15_000, "! " * 15_000 + "ls"),
        "ls " + "a" * 5_000_000,
    ],
    ids=lambda text: text[:8],
)
def test_a_hostile_text_costs_little(text: str) -> None:
    start = time.perf_counter()
    assert command.verify(turn(run("ls")), run(text)).outcome == "fail"
    assert command.verify(turn(run(text)), run(text)).outcome == "pass"
    assert time.perf_counter() - start < 5.0
