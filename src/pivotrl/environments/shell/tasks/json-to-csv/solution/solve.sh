#!/bin/bash

python3 -m json.tool people.json

cat > /tmp/convert.py <<'EOF'
import csv, json
people = json.load(open("people.json"))["people"]
people.sort(key=lambda one: -one["age"])
with open("people.csv", "w", newline="") as file:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["name", "city", "age"])
    writer.writerows([one["name"], one.get("address", {}).get("city", ""), one["age"]] for one in people)
EOF
python3 /tmp/convert.py && cat people.csv
