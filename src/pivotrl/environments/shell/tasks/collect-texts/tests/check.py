from pathlib import Path

APP = Path("/app")
found = {path.name: path.read_text() for path in (APP / "flat").iterdir()}
assert found == {"b.txt": "1\n", "a-b.txt": "2\n", "a-c d-e.txt": "3\n"}
assert (APP / "tree/a/c d/e.txt").read_text() == "3\n"
