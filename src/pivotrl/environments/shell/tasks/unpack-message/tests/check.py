from pathlib import Path

APP = Path("/app")
assert (APP / "plain.txt").read_bytes() == b"The key is under the third flower pot.\n"
