from pathlib import Path

APP = Path("/app")
assert (APP / "turned.tsv").read_text() == "city\tOslo\tLima\tRome\njan\t-4\t23\t8\njul\t18\t\t26\n"
