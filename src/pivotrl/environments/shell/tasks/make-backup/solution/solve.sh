#!/bin/bash

find project -type f

tar -czf backup.tar.gz --exclude='*.tmp' --exclude=project/cache project

tar -tzf backup.tar.gz
