#!/bin/bash

ls -lR tools

find tools -type f | while IFS= read -r path; do if [ "$(head -c 2 "$path")" = '#!' ]; then chmod 755 "$path"; else chmod 644 "$path"; fi; done

ls -lR tools | grep -c rwxr-xr-x
