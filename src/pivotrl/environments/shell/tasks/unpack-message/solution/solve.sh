#!/bin/bash

base64 -d message.txt | gunzip > plain.txt && cat plain.txt
