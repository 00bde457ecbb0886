"""``--cluster "ray(...)"``: a command in processes that a cluster places (docs/scale.md).

torchrun starts the same command line in every process; this does the same on a Ray cluster, and starts all again from
what is on disk when one dies.
"""
