#!/bin/bash

file notes/* || ls notes

for name in notes/*; do if ! iconv -f UTF-8 -t UTF-8 "$name" > /dev/null 2>&1; then iconv -f LATIN1 -t UTF-8 "$name" > /tmp/new && cat /tmp/new > "$name"; fi; done

cat notes/*
