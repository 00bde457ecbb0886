from pathlib import Path

APP = Path("/app")
wanted = ["src/lib/util.py:3:# TODO name it", "src/main.py:1:import os  # TODO: drop", "src/main.py:4:# TODO later"]
assert (APP / "todos.txt").read_text().splitlines() == wanted
