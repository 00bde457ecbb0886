"""A sequence classifier that scores a conversation: its logits give the probability of being good."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification

from pivotrl.engine.configuration import cannot_load, read_config, require_safetensors
from pivotrl.engine.limits import max_context
from pivotrl.engine.loading import Dtype, quiet_loading, refusing, resolve_device, resolve_dtype
from pivotrl.engine.locating import locate
from pivotrl.engine.tokenizers import require_ids, tokenizer_in
from pivotrl.protocols import InputError
from pivotrl.storage.record_files import sha256_of_file, sha256_of_json


class RewardHead:
    """Loads a classifier with one label, or with two labels of which one means good.

    Args:
        model: a folder saved by transformers (safetensors), or a Hugging Face id.
        good_label: which of two labels is the good one.

    Raises:
        InputError: the model cannot be loaded, has another number of labels, or has no weights for the classifying
            layer. A plain language model has none: the layer would be random.
    """

    def __init__(self, model: str, good_label: int = 1, dtype: Dtype = "auto", device: str = "auto") -> None:
        self.device = resolve_device(device)
        folder = locate(model)
        start = cannot_load(model, read_config(folder, model).model_type)
        require_safetensors(folder, f"{start}: ")
        with quiet_loading(), refusing(start):
            self.tokenizer = tokenizer_in(folder, model)
            self.model, info = AutoModelForSequenceClassification.from_pretrained(
                str(folder),
                dtype=resolve_dtype(dtype, self.device),
                use_safetensors=True,
                output_loading_info=True,
                trust_remote_code=False,
            )
        self.num_labels = int(self.model.config.num_labels)
        if missing := sorted(info["missing_keys"]):
            raise InputError(f"{model!r} is not a reward model: it has no weights for {', '.join(missing[:3])}")
        if self.num_labels not in (1, 2) or not 0 <= good_label < 2:
            raise InputError(
                f"{model!r} has {self.num_labels} labels; a reward model has one, or two with a good_label"
            )
        self.good_label = good_label
        self.model.to(self.device).eval()
        require_ids(self.tokenizer, len(self.model.get_input_embeddings().weight), model)
        self.max_tokens = max_context(self.model.config, self.tokenizer)
        self.identity = _identity(folder)

    @torch.no_grad()
    def probability(self, token_ids_T: Sequence[int]) -> float:
        """In [0, 1]: the sigmoid of a single logit, or the softmax of two logits at the good label; in fp32."""
        tokens = torch.tensor([list(token_ids_T)], device=self.device)
        logits: Any = self.model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits[0].float()
        if self.num_labels == 1:
            return float(torch.sigmoid(logits[0]))
        return float(torch.softmax(logits, dim=-1)[self.good_label])


def _identity(folder: Path) -> str:
    files = sorted(folder.glob("*.safetensors")) + [folder / "config.json", folder / "tokenizer.json"]
    return sha256_of_json({file.name: sha256_of_file(file) for file in files if file.is_file()})
