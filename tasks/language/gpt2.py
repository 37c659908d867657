"""Transformers' GPT-2 as the loop sees it: characters in, logits of the next ones out, with taps on the way."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from adm_core.errors import AdmError
from adm_core.taps import Network

try:
    from transformers.models.gpt2.configuration_gpt2 import GPT2Config
    from transformers.models.gpt2.modeling_gpt2 import GPT2Block, GPT2LMHeadModel
except ImportError as error:
    raise AdmError("language needs the package transformers: pip install 'adm-bench[language]'") from error

ALPHABET = "alphabet.json"


def as_map(vectors: Tensor) -> Tensor:
    """Vectors [B, T, C] as a map of one row, [B, C, 1, T]; a view."""
    return vectors.transpose(1, 2).unsqueeze(2)


def as_vectors(features: Tensor) -> Tensor:
    """The reverse of :func:`as_map`."""
    return features.squeeze(2).transpose(1, 2)


class Block(GPT2Block):  # type: ignore[misc]
    """A block whose output passes ``place`` as a map, for taps; its state has GPT-2's names."""

    def __init__(self, config: GPT2Config, number: int) -> None:
        super().__init__(config, layer_idx=number)
        self.place = nn.Identity()

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Vectors [B, T, C] → [B, T, C]."""
        return as_vectors(self.place(as_map(super().forward(*args, **kwargs))))


class LanguageModel(nn.Module):
    """Wraps a ``GPT2LMHeadModel`` without changing it: its state has the same names, below ``model.``.

    Attributes:
        model: Transformers' network; the classifier's weights are its own, not those of the embedding.
        penultimate: a place for taps.
        logits: likewise.
    """

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.model = GPT2LMHeadModel(config)
        for number, plain in enumerate(self.model.transformer.h):
            block = Block(config, number)
            block.load_state_dict(plain.state_dict())
            self.model.transformer.h[number] = block
        self.penultimate, self.logits = nn.Identity(), nn.Identity()

    def forward(self, characters: Tensor) -> Tensor:
        """Characters int64 [B, 1, 1, T] → logits [B, K, 1, T] of the character after each."""
        read = self.model.transformer(input_ids=characters[:, 0, 0], use_cache=False)
        features = self.penultimate(as_map(read.last_hidden_state))
        logits: Tensor = self.logits(as_map(self.model.lm_head(as_vectors(features))))
        return logits


def build(name: str, config: Mapping[str, Any], taps: Mapping[str, str], classes: int, length: int) -> Network:
    """Build a network with its taps.

    Args:
        name: by which it is known.
        config: keys of ``GPT2Config``, among them ``n_layer``.
        taps: tap to module path.
        classes: size of the alphabet.
        length: the most characters that it can read.

    Raises:
        AdmError: Transformers cannot build it.
    """
    given: dict[str, Any] = {"vocab_size": classes, "n_positions": length, "bos_token_id": None, "eos_token_id": None}
    given |= dict.fromkeys(("embd_pdrop", "resid_pdrop", "attn_pdrop"), 0.0) | {"tie_word_embeddings": False}
    # GPT-2's own spread of weights is for its width of 768: with it narrow networks take far longer to begin to learn
    given |= {"initializer_range": 0.02 * math.sqrt(768 / config["n_embd"])}
    # attention as matrix products: the same kernels as everything else, which are counted and can be deterministic
    given |= {"attn_implementation": "eager"}
    try:
        module = LanguageModel(GPT2Config(**given | dict(config)))
    except Exception as error:  # a constructor may raise anything
        raise AdmError(f"network '{name}' cannot be built: {type(error).__name__}: {error}") from error
    middle, last = f"stage{(config['n_layer'] + 1) // 2}", f"stage{config['n_layer']}"
    groups = {"hint": (middle,), "all-stages": tuple(dict.fromkeys((middle, last)))}
    return Network(name, module, taps, groups=groups)


def save(network: LanguageModel, folder: Path, alphabet: tuple[str, ...]) -> None:
    """Write what ``AutoModelForCausalLM.from_pretrained(folder)`` loads, and the alphabet, in the order of its tokens.

    Args:
        network: what to save.
        folder: made if need be.
        alphabet: characters.
    """
    network.model.save_pretrained(folder)
    (folder / ALPHABET).write_text(json.dumps(alphabet), encoding="utf-8")
