"""How calls and thoughts are written as text."""
