from pathlib import Path

APP = Path("/app")
import csv

rows = list(csv.reader((APP / "joined.csv").open(newline="")))
assert rows == [["order", "name", "amount"], ["A1", "Cho, Min", "10"], ["A2", "Ann Lee", "7"], ["A3", "unknown", "1"],
                ["A4", "Cho, Min", "2"]]
