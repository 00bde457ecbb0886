#!/bin/bash

cat -A table.tsv

python3 -c "rows = [line.rstrip('\n').split('\t') for line in open('table.tsv')]; open('turned.tsv', 'w').writelines('\t'.join(column) + '\n' for column in zip(*rows))"

cat -A turned.tsv
