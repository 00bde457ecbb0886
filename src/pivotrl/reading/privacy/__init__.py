"""Secrets and personal data in logs: found, counted, replaced."""
