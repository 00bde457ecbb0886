#!/bin/bash

cat values.env site.conf.in

cat > /tmp/fill.py <<'EOF'
text = open("site.conf.in").read()
for line in open("values.env"):
    name, mark, value = line.rstrip("\n").partition("=")
    if mark and not name.startswith("#"):
        text = text.replace(f"@{name}@", value)
open("site.conf", "w").write(text)
EOF
python3 /tmp/fill.py && cat site.conf
