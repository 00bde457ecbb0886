"""Calls and thoughts as text."""
