"""The compatible verifier against NeMo Gym's released servers, on made-up actions and on what Gym ships.

Without the wheels that `make test` fetches, only the recorded rollouts are compared.
Run alone: python -m pytest tests/test_gym_differential.py -rs
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gym_original import ORACLES, Original, wheels
from pivotrl.protocols import Turn
from pivotrl.readers import nemo_gym
from pivotrl.records import Action, ToolCall, Trajectory, Verdict
from pivotrl.verifiers import gym_compat

DATA = Path(__file__).parent / "data"
RELEASES = ("0.6", "0.7")
SINGLE_STEP = "single_step_tool_use_with_argument_comparison"
STRING_ONLY = {"enable_string_similarity": True, "string_similarity_threshold": 0.9, "enable_llm_judge": False}
Row = dict[str, Any]


@pytest.fixture(scope="module", params=RELEASES)
def release(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def original(release: str, tmp_path_factory: pytest.TempPathFactory) -> Original:
    if release not in wheels():
        pytest.skip(f"no nemo-gym {release} wheel in {ORACLES.name}/ of the environment; make test fetches it")
    return Original(wheels()[release], tmp_path_factory.mktemp(f"gym-{release}"))


def read(path: Path, which: Any = "expected") -> list[Turn]:
    read = [item for item in nemo_gym.read(path, which=which) if isinstance(item, Trajectory)]
    return [Turn(trajectory, len(trajectory.messages) - 1) for trajectory in read]


def differences(verdict: Verdict, server: str, answer: Any) -> list[str]:
    """What of Gym's answer the verdict does not repeat."""
    code = getattr(answer, "category", None) or getattr(answer, "failure_reason", None)
    category = str(getattr(code, "value", code or ""))
    similarity = getattr(answer, "similarity_score", None)
    found = {
        "reward": verdict.reward == answer.reward,
        "outcome": verdict.outcome == ("pass" if answer.reward == 1.0 else "fail"),
        "category": verdict.details.get("category", "") == category,
        "similarity": similarity is None or verdict.details.get("similarity") == similarity,
    }
    if server == "xlam_fc":
        counts = ("num_expected", "num_predicted", "num_correct")
        found["counts"] = all(verdict.details[name] == getattr(answer, name) for name in counts)
    return [name for name, same in found.items() if not same]


# --- made-up actions ----------------------------------------------------------------------------------------------

WORDS = st.lists(st.sampled_from(["a", "B", "b", "refund", "120", "999", "\u0130x", " ", "\n", "/"]), max_size=5)
TEXTS = st.one_of(WORDS.map(" ".join), st.sampled_from(["", "Paris", "paris", "Paris ", "a b c d", "null"]))
SCALARS = st.one_of(
    st.none(), st.booleans(), st.sampled_from([0, 1, 5, 10**20, 5.0, 5.0000004, 0.0, -0.0, 1e308]), TEXTS
)
ODD = st.sampled_from([float("nan"), float("inf")])
VALUES = st.recursive(
    SCALARS | ODD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
    max_leaves=4,
)
BROKEN = st.sampled_from(["null", "[1]", '"a"', "{bad", "5", "[]", '{"a": 1, "a": 2}', " {}", '"{\\"a\\": 1}"'])


def arguments(values: dict[str, st.SearchStrategy[Any]], broken: int = 1) -> st.SearchStrategy[str]:
    """JSON texts of objects with some of these keys; every tenth or so is no JSON, or no object."""
    objects = st.fixed_dictionaries({}, optional=values).map(json.dumps)
    return st.integers(0, 9).flatmap(lambda n: BROKEN if n < broken else objects)


def calls(names: list[str], values: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[ToolCall]:
    return st.builds(ToolCall, name=st.sampled_from(names), arguments=arguments(values))


@st.composite
def pairs(
    draw: st.DrawFn, call: st.SearchStrategy[ToolCall], sizes: tuple[int, ...] = (0, 1, 1, 1, 2, 3)
) -> tuple[Action, Action]:
    """(expected, actual), the latter anything, or the expected calls reordered, cut, replaced or edited."""
    expected = [draw(call) for _ in range(draw(st.sampled_from(sizes)))]
    kind = draw(st.sampled_from(["anything", "reordered", "replaced", "edited", "edited"]))
    if kind == "anything":
        actual = draw(st.lists(call, max_size=3))
    elif kind == "reordered":
        actual = draw(st.permutations([*expected, draw(call)]))[: draw(st.integers(0, 4))]
    elif kind == "replaced":
        actual = [draw(call) if draw(st.booleans()) else one for one in expected]
    else:
        actual = [
            ToolCall(name=other.name, arguments=draw(edited(one.arguments)))
            for one, other in ((one, draw(st.just(one) | call)) for one in expected)
        ]
    text = draw(st.sampled_from([None, "", "  ", "Done."]))
    return (
        Action(content=None if expected else "Done.", tool_calls=tuple(expected)),
        Action(content=text, tool_calls=tuple(actual)),
    )


@st.composite
def edited(draw: st.DrawFn, arguments: str) -> str:
    """The same arguments with a piece of each text in them cut out, put in, or moved to the end."""
    values = json.loads(arguments) if arguments.startswith('{"') and arguments.endswith("}") else None
    for key, value in values.items() if isinstance(values, dict) else ():
        if isinstance(value, str):
            start = draw(st.integers(0, len(value)))
            end = start + draw(st.integers(0, 3) | st.integers(0, len(value)))
            new = draw(st.sampled_from(["", "x", " y ", value[start:end]]))
            values[key] = draw(st.sampled_from([value[:start] + new + value[end:], value[:start] + value[end:] + new]))
    return json.dumps(values) if isinstance(values, dict) else arguments


def expected_action(action: Action) -> Row:
    made = [{"type": "function_call", "name": c.name, "arguments": c.arguments} for c in action.tool_calls]
    if not made:
        return {"type": "message", "content": action.content}
    return made[0] if len(made) == 1 else {"type": "function_call_batch", "calls": made}


def row_of(**rest: Any) -> Row:
    tools = rest.pop("tools", [])
    return {"responses_create_params": {"input": [{"role": "user", "content": "hello"}], "tools": tools}, **rest}


@st.composite
def single_step_cases(draw: st.DrawFn) -> tuple[Row, Action, Row, Row]:
    expected, actual = draw(pairs(calls(["f", "f", "g"], {"a": VALUES, "b": VALUES})))
    options = {
        "word_count_similarity_threshold": draw(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.51])),
        "floating_point_comparison_threshold": draw(st.sampled_from([1e-6, 0.5])),
        "parallel_tool_call_rewarding": draw(st.booleans()),
        "allow_subset": draw(st.booleans()),
        "allow_superset": draw(st.booleans()),
        "parallel_tool_call_reward_mode": draw(st.sampled_from(["binary_strict", "fractional", "f1"])),
    }
    row = row_of(expected_action=expected_action(expected))
    return row, actual, options, {"tool_call_comparator_config": options}


PATHS = st.sampled_from(["/w/p/a.py", "p/a.py", "/x/p/a.py", "/w/q/a.py", "a.py", "/", "./a/", "", None])
COMMANDS = st.lists(
    st.sampled_from(["ls", "/bin/ls", "cat", "-la", "/w/p/a.py", "../q/a.py", "--x=/w/p/a.py", "'p/a.py'", "(", "&&"]),
    max_size=6,
).map(" ".join)
LINES = st.lists(st.sampled_from([1, 10, 40, 50, 100, "7", None, 1e999]), min_size=1, max_size=3)
LONG = ["x" * 700, "y z " * 200]
CODE = st.lists(st.sampled_from(["return x", "if True:", "if False:", "\n", "", *LONG]), max_size=6).map(" ".join)
SWE = {
    "command": COMMANDS | st.sampled_from(["view", "view", "str_replace", "create", None, ""]),
    "cmd": COMMANDS,
    **dict.fromkeys(["path", "file", "file_path", "filename", "file_name"], PATHS),
    "view_range": LINES | LINES.map(str) | st.just("[1, 50]"),
    **dict.fromkeys(["old_str", "new_str", "patch", "diff", "content", "file_text"], CODE | st.none()),
}
SWE_TOOLS = ["bash", "execute_bash", "ExecuteBash", "str_replace_editor", "edit", "write", "grep", "glob", "read"]
SWE_TOOLS += ["View", "finish", "submit", "think", "fetch", "Fetch", "todo_write", "updatePlan"]


def _few(values: dict[str, Any], keys: list[str]) -> dict[str, Any]:
    return {key: values[key] for key in keys}


SWE_CALLS = [
    calls(["bash", "shell"], _few(SWE, ["command", "cmd"])),
    calls(["edit", "str_replace_editor"], _few(SWE, ["command", "path", "old_str", "new_str"])),
    calls(["edit"], {**_few(SWE, ["path", "view_range"]), "command": st.just("view")}),
    calls(["edit", "write"], _few(SWE, ["path", "patch", "diff", "content", "file_text", "new_str"])),
    calls(SWE_TOOLS, SWE),
]


@st.composite
def swe_cases(draw: st.DrawFn) -> tuple[Row, Action, Row, Row]:
    expected, actual = draw(pairs(draw(st.sampled_from(SWE_CALLS)), (0, 1, 1, 1, 1, 1, 1, 2)))
    options = {"reward_mode": draw(st.sampled_from(["binary", "continuous"]))}
    wanted = expected_action(expected)
    where = draw(st.sampled_from(["expected_action", "expected_answer"])) if len(expected.tool_calls) == 1 else ""
    row = row_of(expected_answer=json.dumps(wanted)) if where == "expected_answer" else row_of(expected_action=wanted)
    return row, actual, options, options


KEYSTROKES = st.sampled_from(["ls -la\n", "ls -l\n", "cd /srv\n", "C-c", "", "rm -rf build\n", "x" * 300])
FLAGS = st.booleans()


@st.composite
def terminus_answers(draw: st.DrawFn, harness: str) -> str:
    extra = {"mood": TEXTS} if draw(st.integers(0, 9)) == 0 else {}
    if harness == "terminus_1":
        command = st.fixed_dictionaries(
            {"keystrokes": KEYSTROKES, "is_blocking": FLAGS, "timeout_sec": ODD | st.just(1)}
        )
        keys = {"state_analysis": TEXTS, "explanation": TEXTS, "is_task_complete": FLAGS}
        optional = {}
    else:
        command = st.fixed_dictionaries({"keystrokes": KEYSTROKES}, optional={"duration": st.sampled_from([1, 0.5])})
        keys = {"analysis": TEXTS, "plan": TEXTS}
        optional = {"task_complete": FLAGS}
    commands = st.lists(command, max_size=3)
    made = draw(st.fixed_dictionaries({**keys, "commands": commands, **extra}, optional=optional))
    if draw(st.integers(0, 9)) == 0:
        made[draw(st.sampled_from(sorted(made)))] = draw(SCALARS)
    return json.dumps(made)


@st.composite
def terminus_cases(draw: st.DrawFn) -> tuple[Row, Action, Row, Row]:
    harness = draw(st.sampled_from(["terminus_1", "terminus_2"]))
    odd = draw(st.integers(0, 9)) == 0
    expected = draw(st.sampled_from(["ls", "[]", "{}"]) if odd else terminus_answers(harness))
    actual = draw(st.just(expected) | terminus_answers(harness) | st.sampled_from(["", " \n", "ls", "[]", "{}", "5"]))
    actual = draw(st.sampled_from(["", "<think>{}</think>\n", "<think>a</think><think>b</think>", "So: "])) + actual
    stored = draw(st.sampled_from([harness, harness, harness, "terminus_1", "terminus_3"]))
    row = row_of(expected_answer=expected, metadata={"harness": stored})
    if draw(st.booleans()):
        row["threshold"] = draw(st.sampled_from([0, 0.5, 0.95, 1.0, None]))
    return row, Action(content=actual), {}, STRING_ONLY


HARNESS_TOOLS: dict[str, dict[str, dict[str, st.SearchStrategy[Any]]]] = {
    "codex": {
        "exec_command": {"cmd": COMMANDS | COMMANDS.map(lambda c: f"{c}\r\n"), "workdir": PATHS},
        "update_plan": {"plan": st.sampled_from([[], [1], "[1]", "[]", "", " ", 0, {}, None])},
    },
    "opencode": {
        "bash": {"command": COMMANDS | st.none()},
        "todowrite": {
            "todos": st.lists(
                st.fixed_dictionaries({"status": st.sampled_from([1, 2])}, optional={"priority": FLAGS}) | st.none(),
                max_size=2,
            )
            | st.sampled_from(["[]", "x", None])
        },
        **{name: {"filePath": PATHS, "content": TEXTS} for name in ("read", "write")},
        "edit": {"filePath": PATHS, "oldString": TEXTS, "newString": TEXTS, "replaceAll": FLAGS},
        "glob": {"pattern": TEXTS, "path": PATHS},
        "grep": {"pattern": TEXTS, "path": PATHS, "include": TEXTS},
        "webfetch": {"url": TEXTS, "format": TEXTS},
        "skill": {"name": TEXTS},
        "task": {"subagent_type": TEXTS, "prompt": TEXTS},
    },
    "agent006": {
        "execute_python": {"code": CODE | st.just(" ")},
        "return_result": {"result": VALUES},
    },
    "stirrup": {
        "code_exec": {"cmd": COMMANDS | st.none()},
        "web_search": {"query": TEXTS | st.none()},
        "fetch_web_page": {"url": TEXTS | st.sampled_from(["http://X", "http://x ", None])},
        "finish": {
            "reason": TEXTS,
            "paths": st.lists(st.sampled_from(["a", " a", "b", 1]), max_size=2) | st.just('["a"]'),
        },
    },
    "generic": {"anything": {"a": VALUES, "b": VALUES}},
}
SCHEMAS: list[Any] = [
    {},
    {"type": "object"},
    {
        "type": "object",
        "properties": {"plan": {"type": "array"}, "paths": {"type": "array"}, "todos": {"type": "array"}},
    },
    {
        "type": "object",
        "properties": {"cmd": {"type": "string"}, "a": {"type": "object"}},
        "additionalProperties": True,
    },
    {"type": "object", "required": ["cmd"], "properties": {"filePath": {"type": ["string", "null"]}}},
    {
        "type": "object",
        "properties": {"todos": {"$ref": "#/nowhere"}, "code": {"$ref": "#/$defs/t"}},
        "$defs": {"t": {}},
    },
    {"type": "no such type"},
    {"properties": {"a": {"oneOf": [{"type": "integer"}, {"minimum": 3}]}, "cmd": {"pattern": "ls"}}},
]


@st.composite
def harness_cases(draw: st.DrawFn) -> tuple[Row, Action, Row, Row]:
    harness = draw(st.sampled_from(sorted(HARNESS_TOOLS)))
    tools = HARNESS_TOOLS[harness]
    name = draw(st.sampled_from(sorted(tools)))
    one_tool = calls([name], tools[name])
    expected, actual = draw(pairs(draw(st.sampled_from([one_tool, one_tool | calls(["other"], {"a": SCALARS})]))))
    likely = [{"type": "object"}] * len(SCHEMAS)
    declared = [
        {"type": "function", "name": known, "parameters": draw(st.sampled_from([*SCHEMAS, *likely]))}
        for known in draw(st.sampled_from([[name, "other"], [name, "other"], [name], []]))
    ]
    row = row_of(expected_action=expected_action(expected), harness=harness)
    if draw(st.booleans()):
        row["responses_create_params"]["tools"] = declared
    else:
        nested = [{"type": "function", "function": tool} for tool in declared]
        row["declared_tools"] = draw(st.sampled_from([declared, nested]))
    if draw(st.booleans()):
        row["threshold"] = draw(st.sampled_from([0, 0.5, 1.0, None]))
    threshold = {"string_similarity_threshold": draw(st.sampled_from([0.5, 0.9]))}
    return row, actual, threshold, {"tool_call_comparator_config": threshold}


@st.composite
def xlam_cases(draw: st.DrawFn) -> tuple[Row, Action, Row, Row]:
    expected, actual = draw(pairs(calls(["f", "f", "g"], {"a": VALUES, "b": SCALARS}), (1, 1, 2, 3)))
    if draw(st.integers(0, 9)) == 0:  # JSON within JSON
        twice = (call.model_copy(update={"arguments": json.dumps(call.arguments)}) for call in actual.tool_calls)
        actual = actual.model_copy(update={"tool_calls": tuple(twice)})
    answers = [{"name": call.name, "arguments": call.arguments} for call in expected.tool_calls]
    return row_of(expected_answers=answers), actual, {}, {}


CASES: dict[str, st.SearchStrategy[tuple[Row, Action, Row, Row]]] = {
    SINGLE_STEP: single_step_cases(),
    "swe_pivot": swe_cases(),
    "terminus_judge": terminus_cases(),
    "terminal_multi_harness": harness_cases(),
    "xlam_fc": xlam_cases(),
}


@pytest.mark.parametrize("server", gym_compat.SERVERS)
def test_made_up_actions(
    server: gym_compat.Server, original: Original, release: Any, tmp_path: Path, num_cases: int = 150
) -> None:
    """Each server answers many made-up actions as the released one does, and they reach every kind of answer."""
    reached: Counter[str] = Counter()
    compare_many(server, original, release, tmp_path / "row.jsonl", num_cases, reached)
    assert reached["pass"] > num_cases / 20 and reached["fail"] > num_cases / 20, reached
    assert len(reached) >= {"xlam_fc": 5}.get(server, 8), reached


def compare_many(
    server: gym_compat.Server, original: Original, release: Any, path: Path, num_cases: int, reached: Counter[str]
) -> None:
    @settings(max_examples=num_cases, deadline=None, database=None, derandomize=True)
    @given(case=CASES[server])
    def compare(case: tuple[Row, Action, Row, Row]) -> None:
        row, action, options, config = case
        path.write_text(json.dumps(row))
        turns = read(path)
        assume(turns)  # a reference answer that is no action makes no turn
        [turn] = turns
        verdict = gym_compat.verify(turn, action, server=server, release=release, **options)
        try:
            answer = original.verify(server, row, action, config)
        except (ValueError, TypeError, AttributeError) as error:
            reached["gym_raises"] += 1
            assert verdict.outcome != "pass", error
            return
        reached.update([verdict.outcome, verdict.reason])
        assert not differences(verdict, server, answer), (verdict, answer)

    compare()


# --- rows and rollouts that Gym ships -----------------------------------------------------------------------------


@pytest.mark.parametrize("server", gym_compat.SERVERS)
def test_shipped_rows(server: gym_compat.Server, original: Original, release: Any) -> None:
    """The expected action of each example row against each row of its file."""
    config: Row = {"word_count_similarity_threshold": 0.1, "string_similarity_threshold": 0.9}
    config = STRING_ONLY if server == "terminus_judge" else {"tool_call_comparator_config": config}
    num_compared = 0
    for path in (original.folder / "resources_servers" / server / "data").glob("*example.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        turns = read(path)
        assert len(rows) == len(turns)
        for row, turn in zip(rows, turns, strict=True):
            assert gym_compat.verify(turn, turn.expected_action, server=server, release=release).outcome == "pass"
            for other in turns:
                verdict = gym_compat.verify(turn, other.expected_action, server=server, release=release)
                answer = original.verify(server, row, other.expected_action, config)
                assert not differences(verdict, server, answer), (verdict, answer)
                num_compared += 1
    assert num_compared >= 25


RECORDED: list[tuple[str, str, gym_compat.Server]] = [
    ("single_step_tool_use", "category", SINGLE_STEP),
    ("swe_pivot", "failure_reason", "swe_pivot"),
]


@pytest.mark.parametrize(("name", "category", "server"), RECORDED)
def test_recorded_rollouts(name: str, category: str, server: gym_compat.Server) -> None:
    """The rewards and categories that Gym wrote down when it ran."""
    path = DATA / "nemo_gym" / f"rollouts_{name}.jsonl"
    recorded = [json.loads(line) for line in path.read_text().splitlines()]
    turns = {question(turn): turn for turn in read(DATA / "nemo_gym" / f"{name}.jsonl")}
    rollouts = read(path, "rollout")
    assert len(recorded) == len(rollouts)
    for row, rollout in zip(recorded, rollouts, strict=True):
        verdict = gym_compat.verify(turns[question(rollout)], rollout.expected_action, server=server)
        assert (verdict.reward, verdict.details["category"]) == (row["reward"], row[category])


def question(turn: Turn) -> str:
    return repr([(message.role, message.content) for message in turn.context])
