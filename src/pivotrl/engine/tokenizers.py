"""Loads a tokenizer and refuses one that cannot write or read the model's text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from pivotrl.engine.configuration import reason_of
from pivotrl.engine.locating import locate
from pivotrl.protocols import InputError

_SAMPLE = "Hello, world! 1 + 2"
_REMEDY = "Copy tokenizer.json and tokenizer_config.json from the model that it was made from"


def load_tokenizer(name: str) -> Any:
    """The tokenizer alone.

    Raises:
        InputError: as :func:`pivotrl.engine.loading.load_model`.
    """
    return tokenizer_in(locate(name), name)


def tokenizer_in(folder: Path, name: str) -> Any:
    """The fast tokenizer of a folder, with a padding token. Its own code never runs.

    Raises:
        InputError: the tokenizer is missing, slow, or cannot encode text.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    except Exception as error:  # transformers, tokenizers, a missing package: too many kinds to name
        raise InputError(f"cannot load the tokenizer of {name!r} ({reason_of(error)}). {_REMEDY}") from error
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(f"{name!r} has only a slow tokenizer, which cannot say where control tokens are. {_REMEDY}")
    ids = tokenizer(_SAMPLE, add_special_tokens=False).input_ids
    if not ids or set(ids) == {tokenizer.unk_token_id}:
        raise InputError(f"{name!r} has no usable tokenizer: the one found cannot encode text. {_REMEDY}")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def require_ids(tokenizer: Any, num_rows: int, name: str) -> None:
    """Check that every token in use has a row in the model's embedding.

    Control tokens that neither the chat template nor the end of a text uses may lie beyond it: text from a log never
    becomes one of them.

    Raises:
        InputError: the tokenizer has ids that the model lacks.
    """
    beyond = {text for text, number in tokenizer.get_vocab().items() if number >= num_rows}
    written = f"{tokenizer.chat_template}{tokenizer.eos_token}{tokenizer.bos_token}"
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    used = sorted(text for text in beyond if text not in special or text in written)
    if used:
        listed = ", ".join(map(repr, used[:3]))
        raise InputError(
            f"the tokenizer of {name!r} is not the model's: {len(used)} of its tokens, such as {listed}, are beyond "
            f"the {num_rows} rows of the embedding. Give the tokenizer that the model was trained with, or resize the "
            "model's embedding (model.resize_token_embeddings) and train it"
        )
