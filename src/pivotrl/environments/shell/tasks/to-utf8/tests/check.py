from pathlib import Path

APP = Path("/app")
wanted = {"old": "Gr\u00fc\u00dfe aus M\u00fcnchen\n", "new": "d\u00e9j\u00e0 vu \u2014 again\n", "plain": "plain\n",
          "menu": "cr\u00e8me br\u00fbl\u00e9e\n"}
for name, text in wanted.items():
    assert (APP / "notes" / f"{name}.txt").read_text(encoding="utf-8") == text
