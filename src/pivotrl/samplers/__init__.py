"""Samplers, one per file: they act at turns but cannot be trained."""
