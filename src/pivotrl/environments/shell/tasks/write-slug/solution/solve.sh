#!/bin/bash

cat > slug.py <<'EOF'
import re


def slug(text):
    return re.sub("[^a-z0-9]+", "-", text.lower()).strip("-") or "untitled"
EOF

python3 -c "from slug import slug; print(slug('Hello,  World! 2'), slug('...'))"
