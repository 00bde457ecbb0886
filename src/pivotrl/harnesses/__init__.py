"""Benchmark harnesses, one module each: how a published program is installed, started and read.

:mod:`pivotrl.protocols.harness` says how to write one.
"""
