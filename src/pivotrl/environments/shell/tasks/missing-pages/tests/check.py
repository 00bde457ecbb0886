from pathlib import Path

APP = Path("/app")
assert (APP / "missing.txt").read_text().splitlines() == ["172.16.0.3 3", "10.0.0.7 2", "10.0.0.9 1"]
