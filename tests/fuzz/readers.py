"""Every reader of the package: a function that makes a small sound sample, and one that reads it completely.

`make` writes into an empty folder and returns what `read` is given. `read` returns nothing, checks what it read with
assert, and raises a SyllableLMError for what it refuses. Imports are inside: a run loads what its readers need.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

Make = Callable[[Path], Path]
Read = Callable[[Path], None]


@dataclass(frozen=True)
class Reader:
    """How to make a sample in an empty folder, and how to read it; `only` is a pattern of the files to damage."""

    make: Make
    read: Read
    only: str = "*"


READERS: dict[str, Reader] = {}


def sample(name: str, read: Read, *, only: str = "*") -> Callable[[Make], Make]:
    """Register a reader under a name, with the decorated function that makes its sample."""

    def register(make: Make) -> Make:
        READERS[name] = Reader(make, read, only)
        return make

    return register


# Audio and corpora


def _read_audio(path: Path) -> None:
    from syllablelm.data.audio import audio_info, load_audio, read_blocks

    info, wave = audio_info(path), load_audio(path)
    assert info.num_samples > 0 and wave.dtype == np.float32 and wave.ndim == 1 and np.isfinite(wave).all()
    assert sum(map(len, read_blocks(path))) == len(wave)


def _write_audio(suffix: str, **options: Any) -> Make:
    def make(folder: Path) -> Path:
        import soundfile

        from helpers.random_models import noise

        path = folder / f"speech.{suffix}"
        soundfile.write(path, noise(24_000), 16_000, **options)
        return path

    return make


for _name, _options in {
    "wav": {}, "flac": {}, "ogg": {}, "mp3": {}, "aiff": {}, "au": {}, "caf": {}, "w64": {}, "rf64": {}, "voc": {},
    "opus": {"format": "OGG", "subtype": "OPUS"}, "sph": {"format": "NIST"}, "float.wav": {"subtype": "FLOAT"},
}.items():  # fmt: skip
    READERS[f"audio-{_name}"] = Reader(_write_audio(_name, **_options), _read_audio)


def _read_corpus(path: Path) -> None:
    from syllablelm.data.corpus import scan

    manifest, skipped = scan(path)
    assert all(recording.num_samples > 0 and recording.sample_rate > 0 for recording in manifest)
    assert len({recording.id for recording in manifest}) == len(manifest) > 0 or skipped
    assert all(len(recording.load()) for recording in manifest)


def _corpus(folder: Path) -> Any:
    from helpers.random_models import small_corpus

    return small_corpus(folder, [16_000, 8_000])


@sample("corpus-folder", _read_corpus)
def _folder(folder: Path) -> Path:
    _corpus(folder / "corpus")
    return folder / "corpus"


@sample("corpus-librispeech", _read_corpus)
def _librispeech(folder: Path) -> Path:
    import soundfile

    from helpers.random_models import noise

    chapter = folder / "dev" / "84" / "121"
    chapter.mkdir(parents=True)
    for number in range(2):
        soundfile.write(chapter / f"84-121-000{number}.flac", noise(8_000), 16_000)
    (chapter / "84-121.trans.txt").write_text("84-121-0000 GO ON\n84-121-0001 AND REST\n")
    (folder / "SPEAKERS.TXT").write_text("; ID|SEX|SUBSET|MINUTES|NAME\n84 | F | dev-clean | 8.02 | A B\n")
    return folder


@sample("manifest-jsonl", _read_corpus, only="*.jsonl")
def _jsonl(folder: Path) -> Path:
    _corpus(folder).save(folder / "manifest.jsonl")
    return folder / "manifest.jsonl"


@sample("manifest-csv", _read_corpus, only="*.csv")
def _csv(folder: Path) -> Path:
    _corpus(folder)
    text = "id,path,start,num_samples,speaker,text\na,r0.wav,100,5000,s1,go on\nb,r1.wav,,,s2,rest\n"
    (folder / "manifest.csv").write_text(text)
    return folder / "manifest.csv"


# Alignments and texts


def _read_alignments(path: Path) -> None:
    from syllablelm.data.alignment import read_alignments

    for name, alignment in read_alignments(path).items():
        assert name == alignment.id and alignment.duration >= 0
        assert all(0 <= word.start <= word.end for word in alignment.words)


def _alignment() -> Any:
    from syllablelm.data.alignment import Alignment, Interval, Word

    phones = (Interval("B", 0.1, 0.2), Interval("AA1", 0.2, 0.4))
    return Alignment("a", 1.0, (Word("bah", 0.1, 0.4, phones), Word("baa", 0.5, 0.8, (Interval("AA0", 0.5, 0.8),))))


@sample("alignments-jsonl", _read_alignments)
def _aligned(folder: Path) -> Path:
    from syllablelm.data.alignment import write_alignments

    write_alignments([_alignment()], folder / "a.jsonl")
    return folder / "a.jsonl"


@sample("alignments-textgrid", _read_alignments)
def _textgrid(folder: Path) -> Path:
    tiers = {"words": [(0.0, 0.5, "bah"), (0.5, 1.0, "")], "phones": [(0.0, 0.2, "B"), (0.2, 0.5, "AA1"), (0.5, 1, "")]}
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", "xmax = 1", "tiers? <exists>"]
    lines += [f"size = {len(tiers)}", "item []:"]
    for number, (name, intervals) in enumerate(tiers.items(), start=1):
        lines += [f"  item [{number}]:", '    class = "IntervalTier"', f'    name = "{name}"', "    xmin = 0"]
        lines += ["    xmax = 1", f"    intervals: size = {len(intervals)}"]
        for place, (start, end, label) in enumerate(intervals, start=1):
            lines += [f"    intervals [{place}]:", f"      xmin = {start}", f"      xmax = {end}"]
            lines += [f'      text = "{label}"']
    (folder / "a.TextGrid").write_text("\n".join(lines) + "\n")
    return folder / "a.TextGrid"


@sample("alignments-ctm", _read_alignments)
def _ctm(folder: Path) -> Path:
    (folder / "a.ctm").write_text("a 1 0.00 0.20 B\na 1 0.20 0.30 AA1\nb 1 0.00 0.40 AA0\n")
    return folder / "a.ctm"


def _text_reader(module: str, function: str) -> Read:
    def read(path: Path) -> None:
        from pkgutil import resolve_name

        found = resolve_name(f"syllablelm.{module}:{function}")(path)
        assert found is not None
        if not isinstance(found, Mapping | list):
            list(found) if hasattr(found, "__iter__") else None

    return read


_TEXTS = {
    "texts": ("data.texts", "read_texts", "a.txt", "He went up the hill again. Then, later on, he came down.\n" * 3),
    "dictionary": ("itemsets.pronunciations", "read_dictionary", "a.dict", "GO  G OW1\nON  AA1 N\nON(2)  AO1 N\n"),
    "overrides": ("core.config", "read_toml", "a.toml", 'a = 1\n[b]\nc = [1.5, "x"]\n'),
}
for _name, (_module, _function, _file, _content) in _TEXTS.items():

    def _write_text(folder: Path, file: str = _file, content: str = _content) -> Path:
        (folder / file).write_text(content)
        return folder / file

    READERS[f"text-{_name}"] = Reader(_write_text, _text_reader(_module, _function))


@sample("sentences-archive", _text_reader("itemsets.sentences", "read_sentences"))
def _blimp(folder: Path) -> Path:
    import tarfile

    row = {"sentence_good": "He goes.", "sentence_bad": "He go.", "field": "syntax", "linguistics_term": "agreement"}
    row |= {"UID": "agreement_1", "pairID": "0", "simple_LM_method": True, "lexically_identical": False}
    (folder / "a.jsonl").write_text(f"{json.dumps(row)}\n{json.dumps({**row, 'pairID': '1'})}\n")
    with tarfile.open(folder / "pairs.tar.gz", "w:gz") as archive:
        archive.add(folder / "a.jsonl", "blimp/a.jsonl")
    (folder / "a.jsonl").unlink()
    return folder / "pairs.tar.gz"


def _read_gold(path: Path) -> None:
    from syllablelm.evaluate.lm.suites import read_lexical

    assert len(read_lexical(path)) == 1


@sample("items-lexical", _read_gold)
def _gold(folder: Path) -> Path:
    rows = "id,filename,voice,frequency,length,correct\n0,a_w,v,3,4,1\n0,a_n,v,,4,0\n"
    (folder / "gold.csv").write_text(rows)
    for name in ("a_w", "a_n"):
        (folder / f"{name}.wav").write_bytes(b"")
    return folder


# Units


def _write_units(name: str) -> Make:
    def make(folder: Path) -> Path:
        from syllablelm.core.segmentation import Segmentation
        from syllablelm.formats import FORMATS, open_writer

        path = folder / f"units{FORMATS[name].suffixes[0] if name not in ('textgrid', 'sdhubert') else ''}"
        with open_writer(path, name) as writer:
            for id, units in {"a": [3, 1, 2], "b/c": [0, 5], "d": [7]}.items():
                edges = np.arange(len(units) + 1) * 3
                writer.write(id, f"{id}.wav", Segmentation.from_boundaries(edges, unit=units))
        return path

    return make


def _read_units(name: str) -> Read:
    def read(path: Path) -> None:
        from syllablelm.formats import FormatOptions, detect_format, read_entries, read_segmentations, units_tokenizer

        detect_format(path, [name])
        entries = list(read_entries(path, name, FormatOptions(hop=320, unit_frames=2)))
        assert all(isinstance(entry.id, str) and len(entry.segmentation) >= 0 for entry in entries)
        if name in ("jsonl", "parquet"):
            assert list(read_segmentations(path)) == [entry.id for entry in entries]
            units_tokenizer(path)

    return read


for _name in (
    "jsonl", "parquet", "textgrid", "slamkit", "slamkit-tokens", "textless", "textless-lines", "gslm", "sdhubert",
):  # fmt: skip
    READERS[f"units-{_name}"] = Reader(_write_units(_name), _read_units(_name))


# Artifacts


def _open_tokenizer(path: Path) -> None:
    from helpers.random_models import noise
    from syllablelm.tokenizer.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(path, device="cpu")
    segments = tokenizer.encode(noise(16_000))
    assert segments.num_frames and (segments.unit is None or segments.unit.max(initial=0) < (tokenizer.num_units or 0))


@sample("artifact-tokenizer", _open_tokenizer)
def _tokenizer(folder: Path) -> Path:
    from dataclasses import asdict

    from helpers.random_models import small_predictor
    from syllablelm.core.artifact import new_artifact
    from syllablelm.quantize import Codebook
    from syllablelm.tokenizer.segment_rule import RULE_FILE, SegmentRule
    from syllablelm.tokenizer.tokenizer import CODEBOOK_FILE

    rule = SegmentRule(rate=5.0)
    centres = np.random.default_rng(0).standard_normal((24, 32)).astype(np.float32)
    path = folder / "tokenizer"
    with new_artifact(path, "tokenizer", config=rule, seed=0, parents={}, metrics={}) as payload:
        small_predictor().save(payload)
        Codebook(centres, np.arange(24, dtype=np.int32) % 12).save(payload / CODEBOOK_FILE)
        (payload / RULE_FILE).write_text(json.dumps(asdict(rule)))
    return path


def _read_codec(path: Path) -> None:
    from syllablelm.core.segmentation import Segmentation
    from syllablelm.quantize.codec import Codec

    codec = Codec.load(path)
    units = Segmentation.from_boundaries([0, 2, 4, 6], unit=[1, 2, 1], hop=codec.hop, sample_rate=codec.sample_rate)
    assert codec.decode(codec.encode(units)).unit is not None


@sample("artifact-codec", _read_codec)
def _codec(folder: Path) -> Path:
    from syllablelm.core.artifact import new_artifact
    from syllablelm.core.segmentation import Segmentation
    from syllablelm.quantize.codec import KIND, fit_codec

    units = Segmentation.from_boundaries(np.arange(41) * 2, unit=[1, 2, 3, 4] * 10)
    with new_artifact(folder / "codec", KIND, config={}, seed=0, parents={}, metrics={}) as payload:
        fit_codec([units], "bpe", 8, 12).write_payload(payload)
    return folder / "codec"


def _read_store(path: Path) -> None:
    from syllablelm.lm.store import TokenStore

    store = TokenStore.open(path)
    assert all(len(tokens) == len(frames) for tokens, frames in (store[index] for index in range(len(store))))
    assert store.seconds >= 0


@sample("artifact-tokens", _read_store)
def _store(folder: Path) -> Path:
    from syllablelm.core.segmentation import Segmentation
    from syllablelm.lm.store import TokenInfo, TokenStore

    path = folder / "store"
    path.mkdir()
    TokenStore.from_segmentations(
        [("a", Segmentation.from_boundaries([0, 2, 5], unit=[1, 2]))] * 3, TokenInfo(num_tokens=5)
    ).save(path)
    return path


@sample("artifact-codebook", lambda path: _quantized(path))
def _codebook(folder: Path) -> Path:
    from syllablelm.quantize import Codebook

    centres = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    Codebook(centres, np.arange(6, dtype=np.int32) % 3).save(folder / "codebook.safetensors")
    return folder / "codebook.safetensors"


@sample("artifact-centres", lambda path: _quantized(path))
def _centres(folder: Path) -> Path:
    np.save(folder / "centres.npy", np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32))
    return folder / "centres.npy"


def _quantized(path: Path) -> None:
    from syllablelm.quantize.codebook import read_codebook

    book = read_codebook(path)
    units = book.assign(np.zeros((2, book.dim), dtype=np.float32))
    assert (units >= 0).all() and (units < book.num_units).all()


def _open_lm(path: Path) -> None:
    from syllablelm.core.segmentation import Segmentation
    from syllablelm.lm.speech_lm import SpeechLM

    lm = SpeechLM.load(path, device="cpu")
    prompt = Segmentation.from_boundaries([0, 3, 6], unit=[1, 2], hop=lm.info.hop, sample_rate=lm.info.sample_rate)
    assert np.isfinite(lm.score(prompt))


def _save_lm(folder: Path, num_tokens: int, info: Any) -> Any:
    import torch

    from syllablelm.core.artifact import new_artifact
    from syllablelm.lm.speech_lm import SpeechLM
    from syllablelm.train.lm_stage import LMShape, save_lm

    torch.manual_seed(0)
    lm = SpeechLM(LMShape(1, 16, 2, 32, 64, 0.0).build(num_tokens), info, np.full(num_tokens, 3, dtype=np.int32))
    with new_artifact(folder, "lm", config={}, seed=0, parents={}, metrics={}) as payload:
        save_lm(lm, payload)
    return lm


@sample("artifact-lm", _open_lm)
def _lm(folder: Path) -> Path:
    from syllablelm.lm.store import TokenInfo

    _save_lm(folder / "lm", 8, TokenInfo(8))
    return folder / "lm"


def _open_resynthesizer(path: Path) -> None:
    from syllablelm.core.segmentation import Segmentation
    from syllablelm.vocoder.resynthesizer import Resynthesizer

    speaker = Resynthesizer.load(path, device="cpu")
    wave = speaker.decode(Segmentation.from_boundaries([0, 6, 12], unit=[3, 1]))
    assert wave.dtype == np.float32 and np.isfinite(wave).all()


@sample("artifact-resynthesizer", _open_resynthesizer)
def _resynthesizer(folder: Path) -> Path:
    import torch

    from syllablelm.vocoder.interleave import StreamInfo
    from syllablelm.vocoder.resynthesizer import LM_FOLDER, VOCODER_FOLDER
    from syllablelm.vocoder.source_filter import SourceFilterNet, SourceFilterShape, SourceFilterVocoder

    path = folder / "speaker"
    path.mkdir()
    _save_lm(path / LM_FOLDER, 14, StreamInfo(syllables=8, acoustic=6).tokens)
    (path / VOCODER_FOLDER).mkdir()
    torch.manual_seed(0)
    SourceFilterVocoder(SourceFilterNet(SourceFilterShape(6, dim=16, blocks=2, kernel=3))).save(path / VOCODER_FOLDER)
    return path


def _read_vocabulary(path: Path) -> None:
    from syllablelm.tokenizer.reference_units import Vocabulary

    assert Vocabulary.load(path).encode(_alignment()).segmentation.num_frames == 50


@sample("artifact-vocabulary", _read_vocabulary)
def _vocabulary(folder: Path) -> Path:
    from syllablelm.tokenizer.reference_units import fit_vocabulary

    fit_vocabulary([_alignment()], "syllable").save(folder / "vocabulary")
    return folder / "vocabulary"


def _read_encoded(path: Path) -> None:
    from syllablelm.engine.shards import open_corpus, read_units

    corpus = open_corpus(path)
    assert corpus.summary().recordings >= 0
    assert all(units.num_frames >= 0 for _, units in islice(read_units(path), 100))


@sample("artifact-encoded-corpus", _read_encoded, only="out/**/*")
def _encoded(folder: Path) -> Path:
    from syllablelm.core.segmentation import Segmentation
    from syllablelm.engine.shards import begin_corpus, enter_shard

    _corpus(folder).save(folder / "m.jsonl")
    config = {"rule": {"rate": 5.0}, "precision": "float32", "shard_seconds": 0.6}
    corpus = begin_corpus(folder / "m.jsonl", folder / "out", config=config, parents={"model": "a" * 16})
    for shard in corpus.shards:
        places = range(len(shard))
        enter_shard(corpus, shard, {p: Segmentation.from_boundaries([0, 2, 4], unit=[1, 2]) for p in places}, {})
    corpus.finish()
    return folder / "out"


# Checkpoints of encoders and vocoders


def _open_encoder(path: Path) -> None:
    from helpers.random_models import noise
    from syllablelm.encoders import load_encoder

    encoder = load_encoder(path, 2, device="cpu")
    features = encoder.encode([noise(8_000)])[0]
    assert features.ndim == 2 and len(features) and encoder.hop > 0


def _hub(family: str, **options: Any) -> Make:
    def make(folder: Path) -> Path:
        from helpers.random_encoders import make_model
        from syllablelm.encoders.quiet import quiet_transformers

        with quiet_transformers():
            make_model(family).save_pretrained(folder / "model", **options)
        return folder / "model"

    return make


READERS["encoder-hubert"] = Reader(_hub("hubert-group"), _open_encoder)
READERS["encoder-wavlm"] = Reader(_hub("wavlm-layer-stable"), _open_encoder)
READERS["encoder-whisper"] = Reader(_hub("whisper"), _open_encoder)
READERS["encoder-w2v-bert"] = Reader(_hub("w2v-bert"), _open_encoder)


@sample("encoder-bin", _open_encoder)
def _bin(folder: Path) -> Path:
    import torch
    from safetensors.torch import load_file

    path = _hub("hubert-layer")(folder)
    torch.save(load_file(path / "model.safetensors"), path / "pytorch_model.bin")
    (path / "model.safetensors").unlink()
    return path


@sample("encoder-fairseq", _open_encoder)
def _fairseq(folder: Path) -> Path:
    import torch

    from helpers.fairseq_checkpoints import Shape, random_weights

    shape = Shape()
    torch.save({"model": random_weights(shape), "cfg": shape.config}, folder / "hubert.pt")
    return folder / "hubert.pt"


@sample("encoder-data2vec2", _open_encoder)
def _data2vec2(folder: Path) -> Path:
    from helpers.data2vec2_checkpoints import write_data2vec2

    return write_data2vec2(folder / "base.pt")


def _open_released(path: Path) -> None:
    from helpers.released_checkpoints import tones
    from syllablelm.tokenizer.tokenizer import Tokenizer

    assert Tokenizer.load(path, rule="released", device="cpu").encode(tones(8_000)).num_frames


@sample("checkpoint-released", _open_released)
def _released(folder: Path) -> Path:
    from helpers.released_checkpoints import write_triple

    return write_triple(folder)


def _open_hifigan(path: Path) -> None:
    from syllablelm.core.segmentation import Segmentation
    from syllablelm.vocoder.hifigan import HiFiGanVocoder

    vocoder = HiFiGanVocoder.load(path, device="cpu")
    units = Segmentation.from_boundaries(
        [0, 1, 2], unit=[3, 1], hop=vocoder.net.shape.hop, sample_rate=vocoder.sample_rate
    )
    assert np.isfinite(vocoder.decode(units)).all()


@sample("checkpoint-hifigan", _open_hifigan)
def _hifigan(folder: Path) -> Path:
    from helpers.published_hifigan import TINY, random_weights, write

    return write(folder / "hifigan", TINY, random_weights(TINY))


# Recipes, studies and reports


def _recipe(class_name: str) -> Read:
    def read(path: Path) -> None:
        from pkgutil import resolve_name

        from syllablelm.core.recipes import build_recipe, read_recipe, recipe_kind

        recipe_kind(read_recipe(path), where=str(path))
        assert build_recipe(resolve_name(f"syllablelm.train.{class_name}"), path).name is not None

    return read


@sample("recipe-tokenizer", _recipe("tokenizer_recipe:TokenizerRecipe"))
def _tokenizer_recipe(folder: Path) -> Path:
    from helpers.micro_recipe import write_recipe

    return write_recipe(folder / "recipe.toml", Path("audio"))


def _packaged(name: str) -> Make:
    def make(folder: Path) -> Path:
        from syllablelm.core.config import to_toml
        from syllablelm.core.recipes import read_recipe

        (folder / "recipe.toml").write_text(to_toml(read_recipe(name)))
        return folder / "recipe.toml"

    return make


READERS["recipe-lm"] = Reader(_packaged("small_lm"), _recipe("lm_stage:LMRecipe"))
READERS["recipe-vocoder"] = Reader(_packaged("small_vocoder"), _recipe("vocoder_recipe:VocoderRecipe"))


def _read_plan(path: Path) -> None:
    from syllablelm.scaling.plan import plan_study, read_study_plan

    assert plan_study(read_study_plan(path), str(path)).models > 0


@sample("study-plan", _read_plan)
def _plan(folder: Path) -> Path:
    text = 'design = "ratio"\nflops = 1e18\nsizes = 2\nratios = [2.0, 8]\nlr = [1e-3]\nunique_tokens = 1e9\n'
    (folder / "plan.toml").write_text(text)
    return folder / "plan.toml"


def _runs() -> list[dict[str, Any]]:
    from syllablelm.scaling import LossLaw

    law = LossLaw(1.73, 13.9, 39.8, 0.25, 0.24)
    return [
        {"params": n, "tokens": d, "loss": law.loss(n, d), "nats_per_second": 5 * law.loss(n, d), "name": f"run{n:g}",
         "tokenizer": "a", "scores": {"sblimp": 20 * (6 * n * d) ** 0.02}, "curve": [[d / 2, law.loss(n, d / 2), None]]}
        for n in (1e6, 4e6, 1.6e7) for d in (1e7, 1e8, 1e9)
    ]  # fmt: skip


def _read_runs(path: Path) -> None:
    from syllablelm.scaling.runs import read_runs
    from syllablelm.scaling.study import fit_study

    study = fit_study(read_runs(path))
    assert study.law.runs > 5 and study.to_dict()


@sample("study-runs", _read_runs)
def _run_table(folder: Path) -> Path:
    (folder / "runs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in _runs()))
    return folder / "runs.jsonl"


def _draw_runs(path: Path) -> None:
    from syllablelm.scaling.law_plots import plot_study
    from syllablelm.scaling.runs import read_groups

    plot_study(read_groups([str(path)]), path.parent.parent / "out.png", figure="scores")


READERS["study-figure"] = Reader(_run_table, _draw_runs)


def _read_study(path: Path) -> None:
    from syllablelm.scaling.prediction import predict

    assert predict(path, flops=1e18, loss=2.5).to_dict()


@sample("study", _read_study)
def _study(folder: Path) -> Path:
    from syllablelm.scaling.runs import read_runs
    from syllablelm.scaling.study import fit_study

    table = _run_table(folder)
    fit_study(read_runs(table), bootstrap=3).save(folder / "study.json")
    table.unlink()
    return folder / "study.json"


def _collect(path: Path) -> None:
    from syllablelm.scaling.runs import collect_runs

    assert len(collect_runs([path]).runs) == 1


@sample("study-run-folder", _collect)
def _run_folder(folder: Path) -> Path:
    path = folder / "a" / "lm"
    path.mkdir(parents=True)
    record = {"params": 1e6, "tokens": 1e7, "flops": 6e13, "tokenizer": "a", "curve": [[5e6, 3.0, 15.0]]}
    record["valid"] = {"model": {"nats_per_token": 2.5, "nats_per_second": 12.0}}
    (path / "run.json").write_text(json.dumps(record))
    (path / "scores.json").write_text(json.dumps({"sblimp": 55.0}))
    return folder / "a"


def _read_results(path: Path) -> None:
    from syllablelm.evaluate.evaluations import read_result

    for file in path.glob("*.json"):
        result = read_result(file)
        assert result.to_dict()["evaluation"] == result.evaluation


@sample("results", _read_results)
def _results(folder: Path) -> Path:
    from helpers.evaluation_results import RESULTS, write

    for name, result in RESULTS.items():
        write(folder / f"{name}.json", result)
    return folder


def _report(path: Path) -> None:
    from syllablelm.report.build import make_report

    report = make_report([path])
    assert report.markdown and "<html" in report.html


READERS["report"] = Reader(_results, _report)


def _read_log(path: Path) -> None:
    from syllablelm.train.runlog import read_log

    assert all("step" in line for line in read_log(path))


@sample("run-log", _read_log)
def _log(folder: Path) -> Path:
    (folder / "log.jsonl").write_text("".join(json.dumps({"step": n, "loss": 1 / n}) + "\n" for n in range(1, 4)))
    return folder
