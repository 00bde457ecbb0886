"""The local policy: prompts, packed rows, sampler, update. The only room that imports torch."""
