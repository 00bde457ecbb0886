from pathlib import Path

APP = Path("/app")
wanted = ("10:00:00 b starts\n10:00:01 a starts\n  from a.conf\n10:00:05 a works\n10:00:05 b works\n"
          "  on item 7\n  on item 8\n10:00:09 a stops\n10:00:10 b stops\n")
assert (APP / "merged.log").read_text() == wanted
