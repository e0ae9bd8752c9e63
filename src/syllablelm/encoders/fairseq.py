"""Checkpoints of fairseq, opened without it: HuBERT (base, large, x-large) with its head, and Data2Vec 2.0 for speech.

The numbers that shape the network are read from the weights: layers, dimensions, kernels, groups, group or layer norm
in the extractor. Four things cannot be told from them and come from the configuration in the file, if there is one:

- attention heads: else 64 dimensions each, but 80 in x-large (1,280 dimensions, 16 heads);
- strides of the extractor: else those of the published kernels (20 ms a frame, or 40 ms with one layer more);
- layer norm before or after each block's parts: else before ("stable layer norm") where the extractor has layer norm,
  which is how large and x-large were made;
- whether waveforms are standardised: else where the extractor has layer norm; fairseq's recipes ask for both together.

Of a ``data2vec_multi`` model (``base_libri.pt``) the decoder and the teacher's running averages are left out; the
configuration must agree with what the weights do not show: heads, post-norm blocks, and the epsilon of the norms.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from syllablelm.core.errors import FormatError
from syllablelm.encoders.checkpoint import Inert, read_checkpoint
from syllablelm.encoders.data2vec2 import AUDIO, UNUSED, Data2Vec2Encoder, from_state
from syllablelm.encoders.device import pick_device
from syllablelm.encoders.heads import PredictionHead
from syllablelm.encoders.minimal_hubert import HEAD_DIM, STRIDES, is_minimal_hubert, to_fairseq
from syllablelm.encoders.weights import build_without_memory, check_tensors, copy_weights, unwrap_names

_HEADS = {1280: 16}
# Names of a transformer block's parts: theirs, and those of transformers.
_BLOCK = {
    "self_attn.q_proj": "attention.q_proj",
    "self_attn.k_proj": "attention.k_proj",
    "self_attn.v_proj": "attention.v_proj",
    "self_attn.out_proj": "attention.out_proj",
    "self_attn_layer_norm": "layer_norm",
    "fc1": "feed_forward.intermediate_dense",
    "fc2": "feed_forward.output_dense",
    "final_layer_norm": "final_layer_norm",
}
_EXTRACTOR = "feature_extractor.conv_layers."
# Where a model that was fine-tuned to transcribe keeps the encoder.
_FINE_TUNED, _TRANSCRIPTION = "w2v_encoder.w2v_model.", "w2v_encoder.proj."
# Weights beside the encoder: of pre-training, and of the transcription.
_BESIDE = ("final_proj.", "label_embs_concat", "target_glu.", _TRANSCRIPTION)


@dataclass(frozen=True)
class FairseqHubert:
    """The content of a fairseq HuBERT checkpoint.

    Args:
        path, weights: the file, for messages, and weights by fairseq's names, without the prefix of fine-tuned models.
        settings: what the configuration in the file says of model and task; empty without one.
    """

    path: Path
    weights: Mapping[str, Tensor]
    settings: Mapping[str, Any]

    @classmethod
    def read(cls, path: str | Path) -> FairseqHubert:
        """Open a checkpoint file; a FormatError where it is none, holds code, or has no weights.

        Those of minimal_hubert and torchaudio are opened too, under fairseq's names.
        """
        checkpoint = read_checkpoint(path)
        weights = checkpoint if is_minimal_hubert(checkpoint) else checkpoint.get("model")
        if not isinstance(weights, dict) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
            raise FormatError(f'{path}: no HuBERT checkpoint of fairseq (no weights under "model")')
        plain = unwrap_names(check_tensors(weights, Path(path)))
        if is_minimal_hubert(plain):
            return cls(Path(path), *to_fairseq(plain))
        plain = {name.removeprefix(_FINE_TUNED): tensor for name, tensor in plain.items()}
        return cls(Path(path), plain, read_settings(checkpoint))

    @property
    def normalize(self) -> bool:
        """Whether the model was trained on standardised waveforms."""
        return bool(self._setting("normalize", bool, self._layer_norm))

    @property
    def _layer_norm(self) -> bool:
        return f"{_EXTRACTOR}0.2.1.weight" in self.weights

    @property
    def _biased(self) -> bool:
        return f"{_EXTRACTOR}0.0.bias" in self.weights

    def _setting(self, name: str, kind: Any, otherwise: Any) -> Any:
        value = self.settings.get(name)
        return value if isinstance(value, kind) else otherwise

    def _count(self, start: str) -> int:
        # One where there is none, so that its weights are found missing.
        pattern = re.compile(re.escape(start) + r"(\d+)\.")
        return max(1, len({found[1] for found in map(pattern.match, self.weights) if found}))

    def _count_layers(self) -> int:
        found = self._count("encoder.layers.")
        said = self._setting("encoder_layers", int, found)
        if said != found:
            raise FormatError(f"{self.path}: {found} layers where its configuration says {said}; get the whole file")
        return found

    def _names(self) -> dict[str, str]:
        """Every weight of the encoder: fairseq's name -> transformers'."""
        whole, each = {"mask_emb": "masked_spec_embed"}, {"layer_norm": "feature_projection.layer_norm"}
        each["post_extract_proj"] = "feature_projection.projection"
        each["encoder.layer_norm"] = "encoder.layer_norm"
        for number in range(self._count(_EXTRACTOR)):
            convolution = f"{_EXTRACTOR}{number}"
            whole[f"{convolution}.0.weight"] = f"{convolution}.conv.weight"
            if self._biased:
                whole[f"{convolution}.0.bias"] = f"{convolution}.conv.bias"
            if self._layer_norm:
                each[f"{convolution}.2.1"] = f"{convolution}.layer_norm"
            elif number == 0:
                each[f"{convolution}.2"] = f"{convolution}.layer_norm"
        position = "encoder.pos_conv_embed.conv"
        whole["encoder.pos_conv.0.bias"] = f"{position}.bias"
        whole["encoder.pos_conv.0.weight_g"] = f"{position}.parametrizations.weight.original0"
        whole["encoder.pos_conv.0.weight_v"] = f"{position}.parametrizations.weight.original1"
        for number in range(self._count_layers()):
            for theirs, ours in _BLOCK.items():
                each[f"encoder.layers.{number}.{theirs}"] = f"encoder.layers.{number}.{ours}"
        parts = ("weight", "bias")
        return whole | {f"{theirs}.{part}": f"{ours}.{part}" for theirs, ours in each.items() for part in parts}

    def model(self) -> nn.Module:
        """The encoder as a ``HubertModel`` with its own copy of the weights, in float32.

        Raises:
            FormatError: weights that are missing, unknown or of other shapes, or a shape that cannot be told.
        """
        from transformers.models.hubert.modeling_hubert import HubertModel

        names = self._names()
        self._refuse("missing", [name for name in names if name not in self.weights])
        beside = [name for name in self.weights if name not in names and not name.startswith(_BESIDE)]
        self._refuse("unknown", beside)
        model: Any = build_without_memory(lambda: HubertModel(self._config()), self.path, len(self.weights))
        expected = model.state_dict()
        wrong = [
            f"{theirs} is {tuple(self.weights[theirs].shape)}, not {tuple(expected[ours].shape)}"
            for theirs, ours in names.items()
            if self.weights[theirs].shape != expected[ours].shape
        ]
        self._refuse("of a wrong shape", wrong)
        self._refuse("not floating-point", [name for name in names if not self.weights[name].is_floating_point()])
        copied = copy_weights({name: self.weights[name] for name in names}, self.path)
        model.load_state_dict({ours: copied[theirs] for theirs, ours in names.items()}, assign=True)
        return model.eval()

    def _refuse(self, what: str, names: list[str]) -> None:
        if names:
            raise FormatError(
                f"{self.path}: not a whole HuBERT of fairseq: weights {what}: {len(names)} (first {names[0]})"
            )

    def _config(self) -> Any:
        from transformers.models.hubert.configuration_hubert import HubertConfig

        convolutions = [self.weights[f"{_EXTRACTOR}{number}.0.weight"] for number in range(self._count(_EXTRACTOR))]
        position = self.weights["encoder.pos_conv.0.weight_v"]
        if any(weight.ndim != 3 or 0 in weight.shape for weight in [*convolutions, position]):
            raise FormatError(f"{self.path}: not a HuBERT of fairseq: its convolutions are of another kind")
        kernels = tuple(weight.shape[2] for weight in convolutions)
        dim = self.weights["mask_emb"].numel()
        return HubertConfig(
            hidden_size=dim,
            num_hidden_layers=self._count_layers(),
            num_attention_heads=self._setting("encoder_attention_heads", int, _HEADS.get(dim, max(1, dim // HEAD_DIM))),
            intermediate_size=self.weights["encoder.layers.0.fc1.bias"].numel(),
            conv_dim=tuple(len(weight) for weight in convolutions),
            conv_kernel=kernels,
            conv_stride=self._strides(kernels),
            conv_bias=self._biased,
            feat_extract_norm="layer" if self._layer_norm else "group",
            do_stable_layer_norm=bool(self._setting("layer_norm_first", bool, self._layer_norm)),
            num_conv_pos_embeddings=position.shape[2],
            num_conv_pos_embedding_groups=len(position) // position.shape[1],
            hidden_dropout=self._setting("dropout", (int, float), 0.1),
            attention_dropout=self._setting("attention_dropout", (int, float), 0.1),
            activation_dropout=self._setting("activation_dropout", (int, float), 0.0),
            feat_proj_dropout=self._setting("dropout_input", (int, float), 0.1),
            layerdrop=0.0,
            # Masks come from LossPred and from training, not from inside the model.
            apply_spec_augment=False,
        )

    def _strides(self, kernels: tuple[int, ...]) -> tuple[int, ...]:
        # As fairseq writes them: "[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2", of (channels, kernel, stride).
        text = re.sub(r"\s", "", self._setting("conv_feature_layers", str, ""))
        layers: list[tuple[int, int]] = []
        for group, times in re.findall(r"\[([(),\d]+)\](?:\*(\d{1,2}))?", text):
            found = re.findall(r"\(\d+,(\d+),(\d+)\)", group)
            layers += [(int(kernel), int(stride)) for kernel, stride in found] * int(times or 1)
        if tuple(kernel for kernel, _ in layers) == kernels:
            return tuple(stride for _, stride in layers)
        if kernels not in STRIDES:
            raise FormatError(
                f"{self.path}: the strides of its extractor cannot be told: the kernels {list(kernels)} are of no "
                "published model, and the file's configuration does not describe them"
            )
        return STRIDES[kernels]

    def head(self) -> PredictionHead:
        """The head: final projection and label embeddings.

        Its labels are fairseq's: four special symbols come first, so that cluster k is label k + 4.

        Raises:
            FormatError: no head, or one over several label sets or with gates, which LossPred does not read.
        """
        names = ("final_proj.weight", "final_proj.bias", "label_embs_concat")
        missing = [name for name in names if name not in self.weights]
        if missing:
            raise FormatError(
                f"{self.path}: no prediction head ({missing[0]} is missing, as in fine-tuned models); "
                "LossPred needs a pre-training checkpoint, or a head fitted to this encoder"
            )
        weight, bias, embeddings = (self.weights[name] for name in names)
        if weight.ndim != 2 or embeddings.ndim != 2 or bias.shape != weight.shape[:1]:
            raise FormatError(f"{self.path}: its prediction head has weights of a wrong shape (final_proj.weight)")
        sets, rest = divmod(len(weight), embeddings.shape[1])
        sets = max(sets, len(self._setting("labels", list, [])))
        if sets > 1:
            raise FormatError(f"{self.path}: a prediction head over {sets} label sets; LossPred reads heads with one")
        if rest or any(name.startswith("target_glu.") for name in self.weights):
            raise FormatError(f"{self.path}: a prediction head of another kind than projection and label embeddings")
        temperature = float(self._setting("logit_temp", (int, float), 0.1))
        given = {"projection.weight": weight, "projection.bias": bias, "label_embeddings": embeddings}
        return PredictionHead.of_weights(given, temperature, self.path)


def read_settings(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Model and task of a configuration in one flat table; files of before 2021 hold it flat, as ``args``."""
    config = _plain(checkpoint.get("cfg"))
    if not config:
        return _plain(checkpoint.get("args"))
    model = _plain(config.get("model"))
    # A fine-tuned model's own configuration; that of the encoder lies inside it.
    inner = _plain(_plain(model.get("w2v_args")).get("model"))
    tables = (_plain(config.get("task")), model, inner)
    return {name: _value(value) for table in tables for name, value in table.items()}


def _plain(node: Any) -> dict[str, Any]:
    """A table of a configuration, saved as a dict, a Namespace or by omegaconf; {} where there is none."""
    value = _value(node)
    if isinstance(value, Inert):
        value = value.state
    return value if isinstance(value, dict) else {}


def _value(node: Any) -> Any:
    """What a node of omegaconf holds; other values as they are."""
    state = node.state if isinstance(node, Inert) else None
    if isinstance(state, dict):
        for name in ("_content", "_val"):
            if name in state:
                return state[name]
    return node


def is_fairseq_data2vec2(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a checkpoint that was read holds a Data2Vec 2.0 speech model of fairseq."""
    weights = checkpoint.get("model")
    return isinstance(weights, Mapping) and any(AUDIO in str(name) for name in weights)


def load_fairseq_data2vec2(
    path: str | Path, checkpoint: Mapping[str, Any], layer: int | None = None, *, device: str | torch.device = "auto"
) -> Data2Vec2Encoder:
    """Build the encoder of a fairseq checkpoint.

    Waveforms are standardised as ``task.normalize`` in the file says, else as in the published pre-training.

    Args:
        path, checkpoint: the file, for errors, and what `read_checkpoint` gave of it.
        layer, device: 1-based block whose output is the feature (None: the 11th of 12); see ``load_encoder``.

    Raises:
        FormatError: weights that are missing, unknown or of another shape, or a configuration of another model.
        InputError: there is no such layer.
    """
    if not is_fairseq_data2vec2(checkpoint):
        raise FormatError(f'{path}: not a Data2Vec 2.0 speech model of fairseq (no weights of {AUDIO}* under "model")')
    weights = unwrap_names({str(name): weight for name, weight in checkpoint["model"].items()})
    prefix = _FINE_TUNED if any(name.startswith(_FINE_TUNED) for name in weights) else ""
    # The averages are a table, not a tensor.
    left_out = (_TRANSCRIPTION, *(prefix + name for name in UNUSED))
    state = {name: weight for name, weight in weights.items() if not name.startswith(left_out)}
    scale = state.get(f"{prefix}{AUDIO}alibi_scale")
    if isinstance(scale, Tensor) and scale.ndim == 4:
        # Before fairseq knew scales of single layers.
        state[f"{prefix}{AUDIO}alibi_scale"] = scale[None]
    model = from_state(check_tensors(state, Path(path)), path, prefix)
    settings = read_settings(checkpoint)
    for name, needed in (("num_heads", model.shape.heads), ("layer_norm_first", False), ("norm_eps", 1e-5)):
        given = settings.get(name, needed)
        if not (isinstance(given, int | float) and given == needed):
            raise FormatError(f"{path}: its configuration has {name} = {given!r} where {needed!r} is expected")
    normalize = settings.get("normalize")
    encoder = Data2Vec2Encoder(model, layer, normalize=normalize if isinstance(normalize, bool) else True)
    return encoder.to(pick_device(device))
