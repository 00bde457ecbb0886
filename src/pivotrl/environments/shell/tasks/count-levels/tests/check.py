from pathlib import Path

APP = Path("/app")
lines = (APP / "levels.txt").read_text().split("\n")
assert lines[0] == "INFO 4", lines
assert sorted(lines[1:3]) == ["ERROR 3", "WARN 3"] and lines[3:] in ([], [""]), lines
