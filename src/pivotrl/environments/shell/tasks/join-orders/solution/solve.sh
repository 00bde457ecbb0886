#!/bin/bash

cat customers.csv orders.csv

cat > /tmp/join.py <<'EOF'
import csv
names = {row["id"]: row["name"] for row in csv.DictReader(open("customers.csv"))}
with open("joined.csv", "w", newline="") as file:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["order", "name", "amount"])
    for row in csv.DictReader(open("orders.csv")):
        writer.writerow([row["order"], names.get(row["customer"], "unknown"), row["amount"]])
EOF
python3 /tmp/join.py

cat joined.csv
