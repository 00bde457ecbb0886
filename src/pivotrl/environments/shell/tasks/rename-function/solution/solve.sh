#!/bin/bash

cat code/*.py; python3 code/main.py

sed -i -E '/^def load|import|load\(/ s/(^|[^a-z"])load(\(|,|$)/\1read_all\2/g' code/*.py

cat code/*.py; python3 code/main.py
