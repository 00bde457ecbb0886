"""Repositories in a sandbox: an agent edits files and runs commands there, and the result is judged."""
