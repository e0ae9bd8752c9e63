"""Files by which transformers and vLLM open a language model of units: weights, tokenizer and generation settings.

The tokenizer's words are those of slamkit, ``<Un12>`` for unit 12; BOS is ``<S>``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import nn

from syllablelm.encoders.quiet import quiet_transformers
from syllablelm.lm.fused import max_positions
from syllablelm.lm.store import TokenInfo

TOKENIZER_FILE, TOKENIZER_CONFIG_FILE = "tokenizer.json", "tokenizer_config.json"
BOS_WORD = "<S>"


def token_words(info: TokenInfo) -> list[str]:
    """Return the word of each token.

    ``<Un12>`` is unit 12 and ``<S>`` BOS. In an interleaved stream ``<Ac12>`` is acoustic unit 12, and ``<P>``,
    ``<E>`` and ``<Z>`` are the ends of the prefix, of a syllable and of the stream.
    """
    ends = info.interleaving == "ella-v"
    units = info.loss_from - ends if info.syllable_hop else info.num_tokens
    words = [f"<Un{unit}>" for unit in range(units)]
    if info.syllable_hop:
        acoustic = info.num_tokens - info.loss_from - 2 * ends
        words += [*["<P>"] * ends, *(f"<Ac{unit}>" for unit in range(acoustic)), *["<E>", "<Z>"] * ends]
    return [*words, BOS_WORD] if info.has_bos else words


def write_model(model: nn.Module, info: TokenInfo, folder: Path) -> None:
    """Write a causal language model of units into an existing folder."""
    with quiet_transformers():
        network: Any = model
        network.save_pretrained(folder)
    write_tokenizer(info, max_positions(model), network.config.model_type, folder)
    write_generation(info, folder)


def write_tokenizer(info: TokenInfo, positions: int, family: str, folder: Path) -> None:
    """Write the files of ``AutoTokenizer``: words to tokens, after BOS where the model has one.

    Other words than the model's, spaces aside, are an error.

    Args:
        info: description of the tokens.
        positions, family: the model's longest sequence in tokens, and its type in transformers.
        folder: existing folder.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors

    words = token_words(info)
    # No token is of unknown words: the name of a missing one makes them an error.
    tokenizer = Tokenizer(models.WordLevel({word: token for token, word in enumerate(words)}, unk_token="<unknown>"))
    split: Any = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex("<[^<>]*>"), "isolated")]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(split)
    tokenizer.decoder = decoders.Fuse()
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": positions,
        "clean_up_tokenization_spaces": False,
        # Some families have their own where nothing is said.
        **dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token")),
    }
    if family not in ("opt", "llama"):
        # Of a few families (Qwen2) transformers 5 opens the tokenizer of texts whatever its class is said to be, and
        # that one keeps added tokens only.
        tokenizer.add_tokens([AddedToken(word, normalized=False) for word in words])
    if info.has_bos:
        tokenizer.add_special_tokens([BOS_WORD])
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{BOS_WORD} $A", pair=f"{BOS_WORD} $A {BOS_WORD} $B:1", special_tokens=[(BOS_WORD, info.bos)]
        )
        config["bos_token"] = BOS_WORD
    tokenizer.save(str(folder / TOKENIZER_FILE))
    (folder / TOKENIZER_CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def write_generation(info: TokenInfo, folder: Path) -> None:
    """Write the settings of ``generate``: it begins with BOS, and draws neither BOS nor tokens without a loss."""
    from transformers.generation.configuration_utils import GenerationConfig

    never = [*range(info.loss_from), *info.start]
    bos = info.bos if info.has_bos else None
    GenerationConfig(bos_token_id=bos, suppress_tokens=never or None).save_pretrained(folder)
