"""Chat templates of other people's models: run in a sandbox, probed, and written with data that stays data."""
