#!/bin/bash

cat server.ini

sed -i -e '/^\[https\]/,/^\[/ s/^port = .*/port = 8443/' -e '/^\[client\]/,/^$/ s/^timeout = 5$/&\nretries = 3/' server.ini

cat server.ini
