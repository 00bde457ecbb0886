#!/bin/bash

(cd data && sha256sum -c SHA256SUMS 2> /dev/null | grep FAILED | cut -d: -f1 | sort > ../damaged.txt); cat damaged.txt
