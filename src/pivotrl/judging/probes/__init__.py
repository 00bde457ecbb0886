"""Actions that a verifier must refuse, and honest variants that it must accept, made from recorded turns."""
