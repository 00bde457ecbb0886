#!/bin/bash

ls photos

(cd photos && for name in *; do new=$(echo "$name" | tr 'A-Z ' 'a-z-'); [ "$name" = "$new" ] || { cp -p "$name" "$new" && rm "$name"; }; done; ls)
