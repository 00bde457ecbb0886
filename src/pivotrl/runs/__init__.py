"""The files of a run: where they stand, what they were when a stage ended, and who may change them."""
