"""One kind of trainable policy a file."""
