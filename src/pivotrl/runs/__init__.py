"""The files of a run: their paths, their state when a stage ended, and who may change them."""
