#!/bin/bash

(cd release && sha256sum * > /tmp/sums && mv /tmp/sums SHA256SUMS && sha256sum -c SHA256SUMS)
