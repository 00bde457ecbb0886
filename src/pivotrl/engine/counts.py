"""What of a decoder memory and time depend on. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Numbers of parameters, unless something else is said."""

    layers: int
    """Number of layers."""
    width: int
    """d, size of a hidden state."""
    vocabulary: int
    """Tokens to choose from."""
    parameters: int
    active: int
    """That a token passes: of a layer's experts, only the chosen ones."""
    trained: int
    """By full fine-tuning: those of the text decoder."""
    layer_parameters: int
    """Of the largest layer."""
    active_layers: int
    """Active ones of all layers together."""
    attention: int
    """In the attention of all layers together."""
    adapted: int
    """In matrices that get an adapter."""
    adapter_width: int
    """Rows and columns of those matrices, all together; times the rank, the parameters of an adapter."""
    queries: int
    """Width of all queries of a layer."""
    cached: int
    """Numbers in the keys and values of a token, of all layers."""
    chosen_experts: int = 0
    """Experts that a token passes in a layer; 0: there are none."""
    context: int | None = None
    """Most tokens of a prompt with its action; None: not known."""
