"""Parts of the local policy: prefix forests, executors, sampler, objective, checkpoints (docs/engine.md)."""
