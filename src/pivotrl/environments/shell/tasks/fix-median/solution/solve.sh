#!/bin/bash

cat stats.py

cat > stats.py <<'EOF'
def median(values):
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2
EOF
python3 -c "from stats import median; print(median([3, 1, 2]), median([4, 1, 3, 2]))"
