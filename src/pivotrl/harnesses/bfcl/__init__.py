"""The Berkeley Function Calling Leaderboard: single calls and conversations of several turns with simulated systems."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pivotrl.protocols import InputError
from pivotrl.protocols.harness import Asked, Batch, Command, Gold, Home, Outcome, Setup

_SINGLE = (
    *("simple_python", "simple_java", "simple_javascript", "multiple", "parallel", "parallel_multiple", "irrelevance"),
    *("live_simple", "live_multiple", "live_parallel", "live_parallel_multiple", "live_irrelevance", "live_relevance"),
)
_MULTI = ("multi_turn_base", "multi_turn_miss_func", "multi_turn_miss_param", "multi_turn_long_context")
CATEGORIES = (*_SINGLE, *_MULTI)
_OTHER_LANGUAGES = ("simple_java", "simple_javascript")
_FAILED = "Error during inference:"
_PREFIX = "BFCL_v4"


@dataclass(frozen=True, kw_only=True)
class Harness:
    """BFCL: function calls, single-turn and multi-turn, in function-calling mode.

    Args:
        categories: as the package names them, such as multi_turn_base, simple_python, live_multiple. Those that search
            the web or keep a memory are not offered.
    """

    categories: Sequence[str] = ("multi_turn_base",)

    package: ClassVar[str] = "bfcl-eval"
    version: ClassVar[str] = "2026.3.23"
    requirements: ClassVar[Sequence[Sequence[str]]] = (
        ("--no-deps", "bfcl-eval==2026.3.23"),  # without the SDKs of model vendors, which play.py does without
        (
            *("requests==2.34.2", "tqdm==4.70.1", "numpy==1.26.4", "pandas==2.2.3", "pydantic==2.14.4"),
            *("python-dotenv==1.2.4", "tree_sitter==0.21.3", "tree-sitter-java==0.21.0"),
            *("tree-sitter-javascript==0.21.4", "openai==3.57.0", "httpx==0.28.1", "typer==0.29.2", "tabulate==0.10.0"),
            *("datamodel-code-generator==0.25.7", "mpmath==1.3.0", "tenacity==9.2.1", "overrides==7.7.0"),
            *(
                "filelock==3.20.0",
                "networkx==3.3",
                "rank_bm25==0.2.2",
                "beautifulsoup4==4.15.0",
                "html2text==2025.4.15",
            ),
        ),
    )
    max_batch: ClassVar[int] = 25
    reader: ClassVar[str] = "bfcl_results"
    logs: ClassVar[str] = "*/result/player/**/*_result.json"

    def __post_init__(self) -> None:
        given = self.categories
        if isinstance(given, str) or not given or (unknown := [one for one in given if one not in CATEGORIES]):
            named = given if isinstance(given, str) or not given else unknown[0]
            raise InputError(f"bfcl has no category {named!r} (give a list); there are {', '.join(CATEGORIES)}")

    def check(self, setup: Setup) -> None:
        if setup.agent.is_gold and (other := [one for one in self.categories if one in _OTHER_LANGUAGES]):
            raise InputError(f"the gold answers of {other[0]} are values, not source text, so no script can give them")

    def tasks(self, home: Home) -> list[str]:
        return [name for category in self.categories for name in _rows(home, f"{_PREFIX}_{category}.json")]

    def command(self, home: Home, batch: Batch) -> Command:
        setup = batch.setup
        limit = {} if setup.max_tokens is None else {"max_tokens": setup.max_tokens}
        asked = {
            "model": setup.agent.model,
            "tasks": [(self._category(task), task) for task in batch.tasks],
            "temperature": setup.temperature,
            "sampling": {"seed": batch.seed, **limit},
            "names_tasks": setup.agent.is_gold,
        }
        environment = {
            "BFCL_PROJECT_ROOT": str(batch.folder),
            "OPENAI_API_KEY": setup.agent.key,
            "OPENAI_BASE_URL": setup.agent.base_url,
        }
        return Command([str(home.python), str(Path(__file__).with_name("play.py")), json.dumps(asked)], environment)

    def outcomes(self, batch: Batch) -> Iterator[Outcome]:
        for number, task in enumerate(batch.tasks):
            folder = batch.folder / str(number)
            score = _first_line(next(folder.glob("score/player/**/*_score.json"), None))
            result = _first_line(next(folder.glob("result/player/**/*_result.json"), None))
            if score is not None and result is not None:
                yield _outcome(task, result, score)

    def gold(self, home: Home) -> Gold:
        truths: dict[str, Any] = {}
        for category in self.categories:
            if "relevance" not in category:
                truths |= {
                    n: row["ground_truth"]
                    for n, row in _rows(home, f"possible_answer/{_PREFIX}_{category}.json").items()
                }

        def answer(asked: Asked) -> Mapping[str, Any]:
            category = self._category(asked.task)
            if category == "live_relevance":
                return {"tool_calls": [{"name": asked.tools[0]["function"]["name"], "arguments": {}}]}
            if "irrelevance" in category:
                return {"content": "None of these functions fits."}
            if category in _MULTI:
                return _of_several_turns(asked, truths[asked.task])
            shown = [tool["function"] for tool in asked.tools]
            needed = {function["name"]: function["parameters"].get("required", ()) for function in shown}
            return {"tool_calls": [_call(call, needed) for call in truths[asked.task]]}

        return answer

    def _category(self, task: str) -> str:
        """The longest category that the id begins with.

        Raises:
            KeyError: there is none.
        """
        found = [category for category in self.categories if task.startswith(f"{category}_")]
        if not found:
            raise KeyError(task)
        return max(found, key=len)


def _rows(home: Home, name: str) -> dict[str, Any]:
    path = home.site / "bfcl_eval" / "data" / name
    try:
        return {row["id"]: row for row in map(json.loads, path.read_text("utf-8").splitlines())}
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); install bfcl-eval again") from error


def _first_line(path: Path | None) -> Any:
    """The first line of a file of JSON lines; None if it is not whole yet."""
    try:
        text = path.read_text("utf-8") if path else ""
        return json.loads(text.partition("\n")[0]) if "\n" in text else None
    except (OSError, ValueError):
        return None


def _outcome(task: str, result: Mapping[str, Any], score: Mapping[str, Any]) -> Outcome:
    said = result["result"]
    if isinstance(said, str) and said.startswith(_FAILED):
        # The package counts this as wrong, but it is a fault of the request or of the server.
        return Outcome(task, None, "context_exceeded" if "context" in said else "inference_error")
    prompts, tokens = (_flat(result.get(f"{kind}_token_count")) for kind in ("input", "output"))
    reward = float(score["accuracy"])
    return Outcome(
        task,
        reward,
        "right" if reward == 1 else "wrong",
        num_turns=len(tokens),
        num_prompt_tokens=int(sum(prompts)),
        num_tokens=int(sum(tokens)),
        seconds=sum(_flat(result.get("latency"))),
    )


def _flat(value: Any) -> list[float]:
    """The numbers in a list of lists."""
    if isinstance(value, list):
        return [number for item in value for number in _flat(item)]
    return [value] if isinstance(value, int | float) else []


def _call(truth: Mapping[str, Mapping[str, Any]], needed: Mapping[str, Sequence[str]]) -> Mapping[str, Any]:
    """Function -> parameter -> accepted values, as a call with the first of each."""
    ((name, accepted),) = truth.items()
    name = name.replace(".", "_")
    return {"name": name, "arguments": _chosen(accepted, needed.get(name, ()))}


def _chosen(accepted: Mapping[str, Any], needed: Sequence[str] = ()) -> dict[str, Any]:
    """An empty string among the values means that the parameter may be left out."""
    return {
        name: _plain(next((value for value in values if value != ""), ""))
        for name, values in accepted.items()
        if "" not in values or name in needed
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return _chosen(value)
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _of_several_turns(asked: Asked, truth: Sequence[Sequence[str]]) -> Mapping[str, Any]:
    """All calls of a turn at once, then a word, which ends it."""
    own = [message for message in asked.messages if message["role"] == "assistant"]
    turn = sum(not message.get("tool_calls") for message in own)
    calls = truth[turn] if turn < len(truth) else ()
    if not calls or (own and own[-1].get("tool_calls")):
        return {"content": "Done."}
    order = {tool["function"]["name"]: list(tool["function"]["parameters"]["properties"]) for tool in asked.tools}
    return {"tool_calls": [_written(call, order) for call in calls]}


def _written(text: str, order: Mapping[str, Sequence[str]]) -> Mapping[str, Any]:
    """A call as Python text."""
    call = ast.parse(text, mode="eval").body
    assert isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
    arguments = dict(zip(order[call.func.id], map(ast.literal_eval, call.args), strict=False))
    arguments |= {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
    return {"name": call.func.id, "arguments": arguments}
