#!/bin/bash

find tree -type f

mkdir -p flat && (cd tree && find . -type f -name '*.txt' | while IFS= read -r path; do cp "$path" "../flat/$(echo "${path#./}" | tr / -)"; done)

ls flat
