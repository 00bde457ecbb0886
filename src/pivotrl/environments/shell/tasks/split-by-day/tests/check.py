from pathlib import Path

APP = Path("/app")
lines = (APP / "app.log").read_text().splitlines()
days = {line.split()[0] for line in lines}
assert {path.name for path in (APP / "daily").iterdir()} == {f"{day}.log" for day in days}
for day in days:
    wanted = [line for line in lines if line.startswith(day)]
    assert (APP / "daily" / f"{day}.log").read_text().splitlines() == wanted
