from pathlib import Path

APP = Path("/app")
assert (APP / "totals.csv").read_text().split() == ["region,total", "east,100.00", "north,11.25", "south,4.35"]
