from pathlib import Path

APP = Path("/app")
assert (APP / "setup.cfg").read_text().split("\n")[2:5] == ["version = 1.5.0", "[options]", "install_requires = other==1.4.90"]
assert (APP / "thing/__init__.py").read_text() == '__version__ = "1.5.0"\n'
assert (APP / "docs/index.md").read_text() == "# thing 1.5.0\n\nNeeds other 11.4.9 or 1.4.8.\n"
