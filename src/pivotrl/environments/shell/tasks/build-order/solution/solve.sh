#!/bin/bash

cat needs.txt

awk -F: '{n = split($2, d, " "); print $1, $1; for (i = 1; i <= n; i++) print d[i], $1}' needs.txt | tsort > order.txt

cat order.txt
