from pathlib import Path

APP = Path("/app")
assert (APP / "answer.txt").read_text().strip() == "Ben"
