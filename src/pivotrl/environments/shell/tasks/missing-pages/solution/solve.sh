#!/bin/bash

head -n 3 access.log

awk '$9 == 404 {n[$1]++} END {for (a in n) print a, n[a]}' access.log | sort -k2,2nr > missing.txt

cat missing.txt
