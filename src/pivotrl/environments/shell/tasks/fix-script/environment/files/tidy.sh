#!/bin/bash
cd $1
mkdir old
for f in $(ls *.log); do
  mv $f old
done
