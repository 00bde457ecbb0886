"""Server ``swe_pivot``: a coding agent's tool call by kind of tool, target, and similarity of what is written or run.

Only the first call of an answer counts. Arguments that are not JSON count as missing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from json import JSONDecodeError
from typing import Any, Literal

from pivotrl.judging.gym_rules.result import Call, GymResult, parse

RewardMode = Literal["binary", "continuous"]
Release = Literal["0.6", "0.7"]

_FULL, _PARTIAL, _BASH_FLOOR, _VIEW_OVERLAP = 0.8, 0.4, 0.3, 0.8
_MAX_COMPARED = 2000
"""Characters of a text that similarity looks at."""
_SIZE_PENALTY, _FULL_PENALTY_SIZE = 0.1, 500

_TOOLS = {
    "edit": (
        "str_replace_editor text_editor file_editor code_editor edit_file modify_file update_file file_edit edit "
        "modify apply_patch patch_file apply_diff apply_changes write write_file save_file create_file"
    ),
    "bash": (
        "execute_bash run_bash bash_exec shell_run shell bash terminal shell_command shell_cmd run_shell_cmd "
        "exec_command exec_cmd"
    ),
    "search": (
        "grep search_text find_pattern text_search glob find_files file_glob match_files grep_files search_files "
        "find_in_files code_search list_dir ls show_dir ls_dir list_directory"
    ),
    "read": "read read_file view_file cat_file view file_view inspect show_file read_file_content",
    "finish": "finish submit",
    "think": "think",
    "planning": (
        "task_tracker todo_tracker plan_tracker todo_read todo_write update_plan list_tasks update_tasks read_todos "
        "write_todos edit_plan modify_plan"
    ),
}
_CATEGORY = {
    spelling: category
    for category, names in _TOOLS.items()
    for name in names.split()
    for spelling in (name, name.replace("_", ""))
}

_PATH = re.compile(r"(?:^|[\s='\"(])((?:/[\w.-]+)+|\.\.?/[\w./-]+|[\w.-]+/[\w./-]+)")


@dataclass(frozen=True)
class _ToolUse:
    name: str
    arguments: Any
    """Decoded, hence of any JSON type: Gym looks things up in it as if it were an object."""

    @property
    def category(self) -> str | None:
        return _CATEGORY.get(self.name.lower())

    def text(self, *keys: str, default: str = "") -> str:
        """The first of the arguments that is there, as text; null is ``None`` then."""
        return next((str(self.arguments[key]) for key in keys if key in self.arguments), default)

    @property
    def path(self) -> str:
        return self.text("path", "file", "file_path", "filename", "file_name").strip()

    @property
    def command(self) -> str:
        return self.text("command", "cmd").strip()

    @property
    def written(self) -> str:
        """What an edit writes: both sides of a replacement, a patch, or a whole file."""
        if "new_str" in self.arguments:
            return f"{self.text('old_str')}\n{self.text('new_str')}"
        return self.text("patch", "diff", "content", "file_text")


def compare(
    expected: Sequence[Call], actual: Sequence[Call], *, reward_mode: RewardMode = "binary", release: Release = "0.6"
) -> GymResult:
    """Reward an action. Nothing earns a reward where not exactly one call is expected.

    Args:
        reward_mode: ``binary`` rewards a similarity of 0.8. ``continuous`` grades from 0.4 to 0.8 and takes off up to
            a tenth for a large edit, so that repeating one exactly may earn less than 1.
        release: of Gym. ``0.7`` no longer takes a call that leaves out the expected command for a perfect match.
    """
    if len(expected) != 1:
        return _failed("expected_action_invalid")
    if not actual:
        return _failed("model_output_invalid")
    try:
        wanted, given = (_ToolUse(name, _decoded(arguments)) for name, arguments in (expected[0], actual[0]))
        return _compare(given, wanted, reward_mode, release)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        # Arguments that are no object; Gym's own lookups break on them and its server answers 0.
        return _failed("unknown_error", error=f"{type(error).__name__}: {error}")


def _decoded(text: str) -> Any:
    try:
        return parse(text)
    except JSONDecodeError:
        return {}


def _compare(given: _ToolUse, wanted: _ToolUse, reward_mode: RewardMode, release: Release) -> GymResult:
    category = given.category if given.category == wanted.category else None
    if category is None and given.name.lower() != wanted.name.lower():
        return _failed("tool_name_mismatch")
    if not _same_target(category, given, wanted, release):
        return _failed("target_mismatch")
    similarity = _similarity(category, given, wanted, release)
    if similarity >= _FULL:
        reward = 1.0
    elif reward_mode == "continuous" and similarity >= _PARTIAL:
        reward = 0.5 + 0.5 * (similarity - _PARTIAL) / (_FULL - _PARTIAL)
    else:
        return _failed("similarity_below_threshold", similarity=similarity)
    if reward_mode == "continuous" and given.category == "edit":
        reward *= 1.0 - _SIZE_PENALTY * min(len(given.written) / _FULL_PENALTY_SIZE, 1.0)
    return GymResult(reward, "match" if reward >= 1.0 else "partial_credit", "none", {"similarity": similarity})


# --- what is acted on ---------------------------------------------------------------------------------------------


def _same_target(category: str | None, given: _ToolUse, wanted: _ToolUse, release: Release) -> bool:
    if category == "edit":
        return _same_edit_target(given, wanted, release)
    if category == "bash":
        return _same_bash_target(given.command, wanted.command, release)
    if category in ("search", "read"):
        return _same_path(given.path, wanted.path, 3)
    return True


def _same_edit_target(given: _ToolUse, wanted: _ToolUse, release: Release) -> bool:
    # Gym asks by ``get`` here, which only objects have.
    mine, theirs = (str(use.arguments.get("command", "")) for use in (given, wanted))
    if release == "0.7" and bool(mine) != bool(theirs):
        return False
    if not _same_where_both(mine, theirs) or not _same_path(given.path, wanted.path, 2):
        return False
    if mine == theirs == "view":
        seen, needed = (_view_range(use.arguments.get("view_range")) for use in (given, wanted))
        if seen and needed:
            overlap = max(0, min(seen[1], needed[1]) - max(seen[0], needed[0]))
            return overlap / max(1, needed[1] - needed[0]) >= _VIEW_OVERLAP
    return True


def _same_bash_target(given: str, wanted: str, release: Release) -> bool:
    if not given or not wanted:
        return release == "0.6" or given == wanted
    if not _same_where_both(_verb(given), _verb(wanted)):
        return False
    mine, theirs = _paths(given), _paths(wanted)
    if mine and theirs and mine.isdisjoint(theirs):
        return False
    return _ratio(given, wanted) >= _BASH_FLOOR


def _same_where_both(one: str, other: str) -> bool:
    return not one or not other or one == other


def _same_path(one: str, other: str, components: int) -> bool:
    return not one or not other or _suffix(one, components) == _suffix(other, components)


def _suffix(path: str, components: int) -> str:
    return "/".join(path.strip("/").split("/")[-components:])


def _verb(command: str) -> str:
    return command.split()[0].rpartition("/")[2]


def _paths(command: str) -> set[str]:
    found = _PATH.findall(command)
    return {_suffix(path, 3) for path in found if len(path) > 2 and not path.startswith("--")} - {""}


def _view_range(value: Any) -> tuple[int, int] | None:
    try:
        if isinstance(value, str):
            value = parse(value)
        return (int(value[0]), int(value[1])) if isinstance(value, list) and len(value) == 2 else None
    except (TypeError, ValueError):
        return None


# --- what is written or run ---------------------------------------------------------------------------------------


def _similarity(category: str | None, given: _ToolUse, wanted: _ToolUse, release: Release) -> float:
    if category == "bash":
        one_is_missing = 1.0 if release == "0.6" else 0.0
        return _ratio(given.command, wanted.command, one_is_missing=one_is_missing)
    if category != "edit":
        return 1.0
    sides = [(given.text(key), wanted.text(key)) for key in ("old_str", "new_str")]
    if all(any(side) for side in zip(*sides, strict=True)):
        return min(_ratio(mine, theirs, one_is_missing=0.0) for mine, theirs in sides)
    return _ratio(given.written, wanted.written, one_is_missing=0.0)


def _ratio(given: str, wanted: str, *, one_is_missing: float = 0.0) -> float:
    """The ratio depends on the order of the two; this one is Gym's."""
    if not given or not wanted:
        return 1.0 if given == wanted else one_is_missing
    return SequenceMatcher(None, given[:_MAX_COMPARED], wanted[:_MAX_COMPARED]).ratio()


def _failed(code: str, **detail: Any) -> GymResult:
    return GymResult(0.0, code, code, detail)
