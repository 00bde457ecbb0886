#!/bin/bash

find store -type f -size +1000c -printf '%s %p\n' | sort -nr > large.txt

cat large.txt
