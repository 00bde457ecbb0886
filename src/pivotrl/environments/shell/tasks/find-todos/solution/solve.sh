#!/bin/bash

grep -rnw TODO src

grep -rnw TODO src | sort -t: -k1,1 -k2,2n > todos.txt
