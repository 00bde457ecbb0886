"""What verifiers are made of, how they are guarded, and how they are tried before they are believed."""
