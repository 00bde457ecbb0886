from pathlib import Path

APP = Path("/app")
assert (APP / "current.txt").read_text().strip() == "1.10.0" and (APP / "notes.txt").read_text() == "ten\n"
