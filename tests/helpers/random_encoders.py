"""Small random models of every Hugging Face family, in the flavours in which checkpoints were published."""

from __future__ import annotations

from typing import Any

import torch
from transformers.models.data2vec.configuration_data2vec_audio import Data2VecAudioConfig
from transformers.models.data2vec.modeling_data2vec_audio import Data2VecAudioModel
from transformers.models.hubert.configuration_hubert import HubertConfig
from transformers.models.hubert.modeling_hubert import HubertModel
from transformers.models.wav2vec2.configuration_wav2vec2 import Wav2Vec2Config
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2Model
from transformers.models.wav2vec2_bert.configuration_wav2vec2_bert import Wav2Vec2BertConfig
from transformers.models.wav2vec2_bert.modeling_wav2vec2_bert import Wav2Vec2BertModel
from transformers.models.wavlm.configuration_wavlm import WavLMConfig
from transformers.models.wavlm.modeling_wavlm import WavLMModel
from transformers.models.whisper.configuration_whisper import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder as HubWhisperEncoder

from syllablelm.encoders.hub import HubEncoder
from syllablelm.encoders.w2vbert import W2vBertEncoder
from syllablelm.encoders.whisper import WhisperEncoder
from syllablelm.encoders.whisper_network import WhisperModel

LAYERS, DIM = 3, 32
SIZE: dict[str, Any] = {
    "hidden_size": DIM,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "initializer_range": 0.2,
}
COMMON: dict[str, Any] = {
    **SIZE,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 15,
    "num_conv_pos_embedding_groups": 4,
}
DATA2VEC: dict[str, Any] = {**COMMON, "num_conv_pos_embeddings": 5, "conv_pos_kernel_size": 19}
GROUP: dict[str, Any] = {"feat_extract_norm": "group", "conv_bias": False}
LAYER: dict[str, Any] = {"feat_extract_norm": "layer", "conv_bias": True}
STABLE: dict[str, Any] = {"do_stable_layer_norm": True}
# TWIST's 25 Hz mHuBERT: one convolution more, and a batch norm before the positional one.
MHUBERT: dict[str, Any] = {
    **COMMON,
    **GROUP,
    "conv_dim": (16,) * 8,
    "conv_kernel": (10, 3, 3, 3, 3, 2, 2, 2),
    "conv_stride": (5, 2, 2, 2, 2, 2, 2, 2),
    "conv_pos_batch_norm": True,
    "num_conv_pos_embeddings": 16,
}
WHISPER: dict[str, Any] = {
    "d_model": DIM,
    "encoder_layers": LAYERS,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 64,
    "init_std": 0.2,
}
FAMILIES = {
    "hubert-layer": lambda: HubertModel(HubertConfig(**COMMON, **LAYER)),
    "hubert-layer-stable": lambda: HubertModel(HubertConfig(**COMMON, **LAYER, **STABLE)),
    "hubert-group": lambda: HubertModel(HubertConfig(**COMMON, **GROUP)),
    "hubert-group-stable": lambda: HubertModel(HubertConfig(**COMMON, **GROUP, **STABLE)),
    "mhubert-25hz": lambda: HubertModel(HubertConfig(**MHUBERT)),
    "wav2vec2-group": lambda: Wav2Vec2Model(Wav2Vec2Config(**COMMON, **GROUP)),
    "wav2vec2-layer-stable": lambda: Wav2Vec2Model(Wav2Vec2Config(**COMMON, **LAYER, **STABLE)),
    "wavlm-group": lambda: WavLMModel(WavLMConfig(**COMMON, **GROUP)),
    "wavlm-layer-stable": lambda: WavLMModel(WavLMConfig(**COMMON, **LAYER, **STABLE)),
    "data2vec-audio": lambda: Data2VecAudioModel(Data2VecAudioConfig(**DATA2VEC)),
    "w2v-bert": lambda: Wav2Vec2BertModel(Wav2Vec2BertConfig(**SIZE)),
    "w2v-bert-relative": lambda: Wav2Vec2BertModel(Wav2Vec2BertConfig(**SIZE, position_embeddings_type="relative")),
    "w2v-bert-rotary": lambda: Wav2Vec2BertModel(Wav2Vec2BertConfig(**SIZE, position_embeddings_type="rotary")),
    "whisper": lambda: whisper_model(WhisperConfig(**WHISPER)),
    "whisper-128": lambda: whisper_model(WhisperConfig(**WHISPER, num_mel_bins=128)),
}


def whisper_model(config: WhisperConfig) -> WhisperModel:
    """Our network with the weights, and the names of weights, of a random one of transformers."""
    model = WhisperModel(config)
    model.encoder.load_state_dict(HubWhisperEncoder(config).state_dict())
    return model


def make_model(family: str, seed: int = 0) -> Any:
    """A random model whose features depend visibly on positions, neighbours and norms."""
    torch.manual_seed(seed)
    model: Any = FAMILIES[family]().eval()
    with torch.no_grad():
        # What starts at nought or one would hide a mistake.
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1 or "gru_rel_pos_const" in name or "pos_bias" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm1d) and module.running_mean is not None:
                module.running_mean.normal_()
    return model


def make_encoder(family: str, layer: int | None = None) -> HubEncoder:
    """An encoder over such a model."""
    model = make_model(family)
    if family.startswith("whisper"):
        return WhisperEncoder(model, layer)
    return W2vBertEncoder(model, layer) if family.startswith("w2v-bert") else HubEncoder(model, layer)
