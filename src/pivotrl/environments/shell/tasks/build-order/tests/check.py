from pathlib import Path

APP = Path("/app")
needs = {line.split(":")[0]: line.split(":")[1].split() for line in (APP / "needs.txt").read_text().splitlines()}
order = (APP / "order.txt").read_text().split()
assert sorted(order) == sorted(needs)
assert all(order.index(other) < order.index(name) for name in needs for other in needs[name])
