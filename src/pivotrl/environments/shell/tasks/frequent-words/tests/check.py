from pathlib import Path

APP = Path("/app")
import re
from collections import Counter

counts = Counter(re.findall("[a-z]+", (APP / "story.txt").read_text().lower()))
wanted = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:5]
assert (APP / "top.txt").read_text().split("\n")[:5] == [f"{word} {count}" for word, count in wanted]
assert len((APP / "top.txt").read_text().split()) == 10
