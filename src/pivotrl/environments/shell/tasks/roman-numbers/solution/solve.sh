#!/bin/bash

cat > roman.py <<'EOF'
import sys

SIGNS = [(1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")]


def roman(number):
    found = ""
    for value, sign in SIGNS:
        found += sign * (number // value)
        number %= value
    return found


if len(sys.argv) != 2 or not sys.argv[1].isdecimal() or not 1 <= int(sys.argv[1]) <= 3999:
    sys.exit(1)
print(roman(int(sys.argv[1])))
EOF

python3 roman.py 1994; python3 roman.py 0; echo $?
