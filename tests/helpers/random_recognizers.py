"""Random recognisers, speaker encoders and text models, in the folders in which others publish theirs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path


def write_ctc(folder: Path, family: str = "wav2vec2") -> Path:
    """Write a random CTC model of a family ("wav2vec2", "hubert") with a head of letters, and its processor."""
    import torch
    from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2Processor
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CTC_MAPPING
    from transformers.models.wav2vec2.feature_extraction_wav2vec2 import Wav2Vec2FeatureExtractor

    folder.mkdir(parents=True, exist_ok=True)
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ABC"]
    (folder / "letters.json").write_text(json.dumps({letter: n for n, letter in enumerate(letters)}), encoding="utf-8")
    tokenizer = Wav2Vec2CTCTokenizer(str(folder / "letters.json"))
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), tokenizer).save_pretrained(folder)
    torch.manual_seed(0)
    config = CONFIG_MAPPING[family](
        vocab_size=len(letters),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )
    MODEL_FOR_CTC_MAPPING[type(config)](config).save_pretrained(folder)
    return folder


def write_whisper(folder: Path) -> Path:
    """Write a random Whisper with a vocabulary of letters, its tokenizer and feature extractor."""
    import torch
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    marks = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|transcribe|>", "<|notimestamps|>"]
    letters = [*"abcdefghijklmnopqrstuvwxyz", "\u0120"]
    tokenizer = WhisperTokenizer(vocab={letter: n for n, letter in enumerate(letters)}, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": marks[1:]})
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor().save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {f"{side}_{name}": 1 for side in ("encoder", "decoder") for name in ("layers", "attention_heads")}
    sizes |= {"encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "d_model": 16, "vocab_size": len(tokenizer)}
    end = tokenizer.eos_token_id
    config = WhisperConfig(**sizes, pad_token_id=end, bos_token_id=end, eos_token_id=end, decoder_start_token_id=end)
    WhisperForConditionalGeneration(config).save_pretrained(folder)
    return folder


def write_xvector(folder: Path) -> Path:
    """Write a random WavLM with an x-vector head of 12 dimensions, and its feature extractor."""
    import torch
    from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMForXVector

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    sizes |= {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "xvector_output_dim": 12}
    WavLMForXVector(WavLMConfig(**sizes, tdnn_dim=(8,) * 5, conv_dim=(8,) * 7)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


def write_text_lm(folder: Path, words: Iterable[str], positions: int = 16) -> Path:
    """Write a random GPT-2 of a few words, whose tokenizer adds no BOS."""
    from tokenizers import Tokenizer as Words
    from tokenizers import models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {word: n for n, word in enumerate(["<end>", "<unk>", *words])}
    model = Words(models.WordLevel(vocabulary, unk_token="<unk>"))
    model.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=model, eos_token="<end>", unk_token="<unk>").save_pretrained(folder)
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    config = GPT2Config(vocab_size=len(vocabulary), n_positions=positions, n_embd=16, n_layer=1, n_head=2, **ends)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder
