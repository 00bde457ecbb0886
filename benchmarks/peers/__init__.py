"""Peers: other ways to do the same work, one a file.

An update peer exports ``prepare(model, tokenizer, micro_batch) -> step``, where ``step(items, advantages)`` runs
forward and backward of the token-level mean of the clipped policy loss, adds to the gradients and returns the loss.
A decode peer exports ``prepare(model, tokenizer) -> draw``, where ``draw(prompts, num_samples, num_tokens)`` gives the
sampled token ids of each prompt. Both raise ``NotAvailable`` where they cannot run.
"""
