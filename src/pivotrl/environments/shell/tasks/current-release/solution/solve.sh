#!/bin/bash

ls releases

ls releases | sort -V | tail -n 1 > current.txt

cp "releases/$(cat current.txt)/notes.txt" notes.txt && cat current.txt notes.txt
