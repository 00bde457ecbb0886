"""One training in several processes that torchrun starts: docs/scale.md."""
