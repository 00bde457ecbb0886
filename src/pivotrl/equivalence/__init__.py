"""When two actions do the same: values, texts, commands, edits and answers compared, each with its rule."""
