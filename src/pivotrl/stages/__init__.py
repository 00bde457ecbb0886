"""The stages of a run on its directory, one a file: each reads files, writes files, and leaves a manifest beside them.

A stage that is complete with the same options and inputs is skipped; one that was interrupted goes on; one that
was made with other settings is refused. Files are checked first, the verifier next, and the policy is touched last:
a model takes long to load.
"""
