#!/bin/bash

grep -rn '1\.4\.9' .

grep -rlw '1\.4\.9' . | xargs sed -i 's/\b1\.4\.9\b/1.5.0/'

grep -rn '1\.[45]\.' .
