"""What the local policy is made of: prefix forests, executors, sampler, objective, checkpoints (docs/engine.md)."""
