from pathlib import Path

APP = Path("/app")
import hashlib

lines = (APP / "release/SHA256SUMS").read_text().splitlines()
found = dict(reversed(line.split(None, 1)) for line in lines)
found = {name.lstrip("*"): digest for name, digest in found.items()}
names = ("a.whl", "b.tar", "c d.zip")
assert found == {name: hashlib.sha256((APP / "release" / name).read_bytes()).hexdigest() for name in names}
