#!/bin/bash

cat shop.sql

cat > /tmp/query.py <<'EOF'
import sqlite3
database = sqlite3.connect(":memory:")
database.executescript(open("shop.sql").read())
query = "SELECT name, SUM(amount) FROM orders JOIN customers ON id = customer WHERE state != 'cancelled' GROUP BY id ORDER BY 2 DESC"
rows = database.execute(query).fetchall()
print(rows)
open("answer.txt", "w").write(rows[0][0] + "\n")
EOF
python3 /tmp/query.py
