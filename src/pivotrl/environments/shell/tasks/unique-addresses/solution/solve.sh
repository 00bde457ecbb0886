#!/bin/bash

cat list.txt

awk 'NF && !seen[tolower($0)]++' list.txt > unique.txt

cat unique.txt
