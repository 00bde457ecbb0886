#!/bin/bash

find docs -type f

find docs -type f \( -name '*.txt' -o -name '*.md' \) -exec sed -i 's/\r$//' {} +

grep -rlP '\r' docs
