#!/bin/bash

cat app.log

mkdir -p daily && awk '{print > ("daily/" $1 ".log")}' app.log

wc -l daily/*
