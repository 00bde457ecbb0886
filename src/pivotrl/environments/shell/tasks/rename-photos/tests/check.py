from pathlib import Path

APP = Path("/app")
found = {path.name: path.read_text() for path in (APP / "photos").iterdir()}
assert found == {"img-001.jpg": "one\n", "summer-at-sea.png": "two\n", "ok.jpg": "three\n"}
