from pathlib import Path

APP = Path("/app")
assert (APP / "damaged.txt").read_text().split() == ["b.dat", "c.dat"]
assert (APP / "data/b.dat").read_bytes() == b"bet@\n"
