"""A sequence classifier that scores a conversation: its logits as a probability of being good."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification

from pivotrl.engine.loading import Dtype, load_tokenizer, resolve_device, resolve_dtype
from pivotrl.protocols import InputError
from pivotrl.store import sha256_of_file, sha256_of_json


class RewardHead:
    """Loads a classifier with one label, or with two of which one means good.

    Args:
        model: a folder saved by transformers (safetensors), or a Hugging Face id.
        good_label: which of two labels is the good one.

    Raises:
        InputError: it cannot be loaded, has another number of labels, or holds no weights for the classifying layer:
            a plain language model, for which that layer would be made up at random.
    """

    def __init__(self, model: str, good_label: int = 1, dtype: Dtype = "auto", device: str = "auto") -> None:
        self.device = resolve_device(device)
        self.tokenizer = load_tokenizer(model)
        try:
            self.model, info = AutoModelForSequenceClassification.from_pretrained(
                model, dtype=resolve_dtype(dtype, self.device), use_safetensors=True, output_loading_info=True
            )
        except (OSError, ValueError, KeyError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(f"cannot load the reward model {model!r}: {reason}") from error
        self.num_labels = int(self.model.config.num_labels)
        if missing := sorted(info["missing_keys"]):
            raise InputError(f"{model!r} is no reward model: it has no weights for {', '.join(missing[:3])}")
        if self.num_labels not in (1, 2) or not 0 <= good_label < 2:
            raise InputError(
                f"{model!r} has {self.num_labels} labels; a reward model has one, or two with a good_label"
            )
        self.good_label = good_label
        self.model.to(self.device).eval()
        self.max_tokens = int(getattr(self.model.config.get_text_config(), "max_position_embeddings", 1 << 30))
        self.identity = _identity(Path(model)) if Path(model).is_dir() else model

    @torch.no_grad()
    def probability(self, token_ids_T: Sequence[int]) -> float:
        """In [0, 1]: the sigmoid of a single logit, or the softmax of two at the good label; in fp32."""
        tokens = torch.tensor([list(token_ids_T)], device=self.device)
        logits: Any = self.model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits[0].float()
        if self.num_labels == 1:
            return float(torch.sigmoid(logits[0]))
        return float(torch.softmax(logits, dim=-1)[self.good_label])


def _identity(folder: Path) -> str:
    files = sorted(folder.glob("*.safetensors")) + [folder / "config.json", folder / "tokenizer.json"]
    return sha256_of_json({file.name: sha256_of_file(file) for file in files if file.is_file()})
