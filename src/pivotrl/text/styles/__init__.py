"""How actions are written as text: one style a file, with ``parse(text, tools)`` and ``write(action, tools)``."""
