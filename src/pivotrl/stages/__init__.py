"""The stages of a run, one per file. Each reads files of the run directory, writes files, and leaves a manifest.

A stage that is complete with the same options and inputs is skipped; an interrupted one continues; one made with
other settings is refused. Each stage checks files first, then the verifier, and touches the policy last, because a
model takes long to load.
"""
