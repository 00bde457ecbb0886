"""Exporters: pivots as the files that another training stack reads, one stack a file."""
