"""For programs of others: ``container_client`` starts a container of :mod:`pivotrl.sandbox.container` and speaks with
it. The folder is put on the path of their interpreters, so the module imports nothing of pivotrl."""
