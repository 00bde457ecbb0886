from pathlib import Path

APP = Path("/app")
assert (APP / "people.csv").read_text().split() == ["name,city,age", "Oto,,58", "Mei,Hue,44", "Ida,Bergen,31"]
