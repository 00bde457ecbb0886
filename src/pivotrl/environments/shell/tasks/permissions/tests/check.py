from pathlib import Path

APP = Path("/app")
for path in (path for path in (APP / "tools").rglob("*") if path.is_file()):
    wanted = 0o755 if path.read_bytes().startswith(b"#!") else 0o644
    assert path.stat().st_mode & 0o777 == wanted, path
assert (APP / "tools/run").read_text() == "#!/bin/sh\necho hi\n"
(APP / "tools/deep/go.py").stat()
