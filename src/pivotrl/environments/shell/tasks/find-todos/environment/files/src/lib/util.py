# TODOS are listed elsewhere
x = 1
# TODO name it
