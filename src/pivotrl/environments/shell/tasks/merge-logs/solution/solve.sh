#!/bin/bash

cat a.log; echo --; cat b.log

cat > /tmp/merge.py <<'EOF'
blocks = []
for name in ("a.log", "b.log"):
    for line in open(name):
        if line.startswith(" "):
            blocks[-1] += line
        else:
            blocks.append(line)
blocks.sort(key=lambda block: block.split()[0])
open("merged.log", "w").write("".join(blocks))
EOF
python3 /tmp/merge.py

cat merged.log
