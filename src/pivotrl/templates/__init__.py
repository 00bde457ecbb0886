"""Untrusted chat templates: run in a sandbox, probed, and filled with data that stays data."""
