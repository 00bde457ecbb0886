import os  # TODO: drop

print(1)
# TODO later
