"""Equality of JSON values, by their schema and by rules."""
