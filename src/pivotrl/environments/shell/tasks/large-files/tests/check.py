from pathlib import Path

APP = Path("/app")
assert (APP / "large.txt").read_text().splitlines() == ["4000 store/b/c.bin", "1500 store/a.bin", "1001 store/e.bin"]
