#!/bin/bash

cat tidy.sh

cat > tidy.sh <<'EOF'
#!/bin/bash
if [ $# -ne 1 ]; then
  echo "usage: tidy.sh FOLDER" >&2
  exit 2
fi
cd "$1" || exit 1
mkdir -p old
for f in *.log; do
  if [ -e "$f" ]; then mv "$f" old/; fi
done
EOF
bash tidy.sh; echo $?

mkdir -p /tmp/try && touch "/tmp/try/a b.log" && bash tidy.sh /tmp/try && ls /tmp/try/old
