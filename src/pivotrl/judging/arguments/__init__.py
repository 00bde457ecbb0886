"""Whether two JSON values are the same, by their schema and by rules."""
