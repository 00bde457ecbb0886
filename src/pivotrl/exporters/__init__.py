"""Exporters: pivots as files for another training stack, one stack per file."""
