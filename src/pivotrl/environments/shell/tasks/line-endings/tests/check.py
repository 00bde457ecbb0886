from pathlib import Path

APP = Path("/app")
assert (APP / "docs/a.txt").read_bytes() == b"one\ntwo\n"
assert (APP / "docs/deep/b.md").read_bytes() == b"# b\n\ntext\n"
assert (APP / "docs/run.bat").read_bytes() == b"@echo off\r\ndir\r\n"
assert (APP / "docs/c.txt").read_bytes() == b"plain\nonly\n"
