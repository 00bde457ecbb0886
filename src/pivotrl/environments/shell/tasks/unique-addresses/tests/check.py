from pathlib import Path

APP = Path("/app")
wanted = ["Ann@example.org", "bob@example.org", "Cy@example.net", "cy@example.org"]
assert (APP / "unique.txt").read_text().splitlines() == wanted
