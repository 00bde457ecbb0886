"""docs/options.md lists every flag and every built-in plugin as they are today."""

import re
import sys
from pathlib import Path

import pytest

from pivotrl import cli, plugins

for package in ("torch", "httpx", "plancraft", "tree_sitter"):
    pytest.importorskip(package, reason="the page lists plugins that need it")

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes"))

import options_page  # noqa: E402


def test_the_page_of_options_is_up_to_date() -> None:
    assert options_page.DOCUMENT.read_text(encoding="utf-8") == options_page.page(), (
        "run python recipes/options_page.py"
    )


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_flag_that_the_command_line_takes_is_on_the_page(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    taken = set(
        re.findall(r"(?<![\w-])--(?!no-|help)[a-z][a-z-]*(?=[, ]|$)", capsys.readouterr().out.partition("options")[2])
    )
    sections = re.split(r"^### ", options_page.page(), flags=re.MULTILINE)
    own = next(section for section in sections if section.startswith(f"`pivotrl {command}`"))
    linked = re.findall(r"\[(\w[\w ]+ options)\]", own)
    shared = [section for section in sections if section.partition("\n")[0].lower() in linked]
    assert taken and taken <= set(re.findall(r"`(--[a-z-]+)`", own + "".join(shared)))


def test_every_built_in_plugin_is_on_the_page() -> None:
    page = options_page.page()
    for kind in plugins.EXPORTS:
        for name in plugins.names(kind):
            assert f"**`{name}`**" in page, (kind, name)
