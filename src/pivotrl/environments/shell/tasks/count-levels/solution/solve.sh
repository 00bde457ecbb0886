#!/bin/bash

head -n 3 logs/*.log

cat logs/*.log | awk '{n[$3]++} END {for (level in n) print level, n[level]}' | sort -k2,2nr -k1,1 > levels.txt

cat levels.txt
