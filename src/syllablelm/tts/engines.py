"""Text-to-speech programs on PATH: text to samples, with the program's own phone times where it prints them.

"flite" prints phone times (gold: the sound is made from them); word times come from aligning the dictionary
pronunciation of each word with the phones spoken. "espeak-ng" speaks a hundred languages, and its library tells when
each word and phone begins. "piper" has neural voices and prints no times.
"""

from __future__ import annotations

import ctypes.util
import json
import shutil
import signal
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import soundfile

from syllablelm.core.errors import AudioError, InputError, MissingDependencyError, SyllableLMError
from syllablelm.core.files import scratch_folder
from syllablelm.data.alignment import Word
from syllablelm.data.syllables import NUCLEI, Interval

SECONDS_PER_CALL = 120


@dataclass(frozen=True)
class Spoken:
    """One utterance: mono samples at the engine's own rate, words with phone times if any, the pitch factor applied."""

    samples: npt.NDArray[np.float32]
    sample_rate: int
    words: tuple[Word, ...] = ()
    pitch: float = 1.0


class Engine(Protocol):
    """A text-to-speech engine; `speak` is called from several threads at once."""

    @property
    def name(self) -> str: ...  # for manifests
    @property
    def voices(self) -> tuple[str, ...]: ...  # the default ones
    @property
    def reader(self) -> tuple[str, ...]: ...  # the default one of stories, which one voice reads
    @property
    def licence(self) -> str: ...  # of the speech, in one line

    def check(self, voices: Sequence[str]) -> None:
        """Raise MissingDependencyError or InputError unless the engine and these voices can be used."""

    def speak(self, text: str, voice: str, *, speed: float, pitch: float) -> Spoken:
        """Speak one utterance with these factors of speed and pitch; AudioError if the engine cannot."""
        ...


# Ctrl-C reaches the engines too; the system's own SIGKILL is for want of memory.
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)


def _run(command: Sequence[str], text: str = "", name: str = "") -> str:
    name = name or command[0]
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=SECONDS_PER_CALL, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise AudioError(f"{name} took longer than {SECONDS_PER_CALL} s") from error
    if -done.returncode in _STOPS:
        # Not the text's fault: an error that is kept would leave it out for good.
        stop = signal.Signals(-done.returncode).name
        raise SyllableLMError(f"{name} was stopped by {stop}; run the same command again to resume")
    if done.returncode != 0:
        raise AudioError(f"{name} failed with status {done.returncode}: {done.stderr.strip()[-200:]}")
    return done.stdout


@contextmanager
def _engine_folder() -> Generator[Path, None, None]:
    """Yield a folder for an engine's files; the OSError of a full disk, which leaves half a recording or none.

    Engines do not report it, and it is no fault of the text.
    """
    with scratch_folder() as folder:
        try:
            yield folder
        finally:
            size = sum(file.stat().st_size for file in folder.iterdir())
            try:
                (folder / "room").write_bytes(bytes(size + 65_536))
            except OSError as error:
                reason = f"{error.strerror}; make room and run the same command again"
                raise OSError(error.errno, reason, str(folder.parent)) from None


def _read_wave(path: Path, engine: str) -> tuple[npt.NDArray[np.float32], int]:
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{engine} wrote no readable audio: {error}") from error
    return np.asarray(samples[:, 0], dtype=np.float32), rate


def _speak(command: Sequence[str], text: str, pitch: float) -> Spoken:
    """Run a program that reads a text from standard input and writes the file named by its last argument."""
    return _speak_and_print(command, text, pitch)[0]


def _speak_and_print(command: Sequence[str], text: str, pitch: float, name: str = "") -> tuple[Spoken, str]:
    """Run a program as `_speak`, by another name in messages; return what it printed, too."""
    name = name or command[0]
    with _engine_folder() as folder:
        wave = folder / "speech.wav"
        printed = _run([*command, str(wave)], text, name)
        samples, sample_rate = _read_wave(wave, name)
    if not np.any(samples):
        raise AudioError(f"{name} found nothing to say in {text[:60]!r}")
    return Spoken(samples, sample_rate, (), pitch), printed


def _plain_ascii(text: str) -> str:
    """Return text with typographic signs and accents in ASCII: flite skips unknown bytes, and their words."""
    text = text.translate(str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "–": ", ", "—": ", ", "…": "."}))  # noqa: RUF001
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


class Flite:
    """CMU Flite (`flite` on PATH): four English voices at 16 kHz, gold phone times in ARPAbet without stress.

    The pitch of the voice rms is fixed by its model.
    """

    name = "flite"
    voices = ("awb", "kal16", "rms", "slt")
    reader = ("slt",)
    licence = "flite and its CMU voices: CMU licence (BSD-like, free for any use with attribution)"
    fixed_pitch = frozenset({"rms"})

    def __init__(self) -> None:
        self._pronunciations: dict[str, tuple[str, ...]] = {}

    @cached_property
    def _installed(self) -> tuple[str, ...]:
        return tuple(_run(["flite", "-lv"]).partition(":")[2].split())

    def check(self, voices: Sequence[str]) -> None:
        """See `Engine.check`; flite itself would speak an unknown voice with its default one."""
        if shutil.which("flite") is None:
            raise MissingDependencyError("flite is not on PATH: apt-get install flite")
        unknown = [voice for voice in voices if voice not in self._installed]
        if unknown:
            raise InputError(f"flite has no voice {unknown[0]!r}; installed: {', '.join(self._installed)}")

    def speak(self, text: str, voice: str, *, speed: float, pitch: float) -> Spoken:
        """See `Engine.speak`."""
        text = _plain_ascii(text)
        pitch = 1.0 if voice in self.fixed_pitch else pitch
        samples, rate, phones = self.render(text, voice, speed=speed, pitch=pitch)
        if all(phone.label == "SIL" for phone in phones):
            raise AudioError(f"flite found nothing to say in {text[:60]!r}")
        return Spoken(samples, rate, self._words(text, voice, phones), pitch)

    def render(
        self, text: str, voice: str, *, speed: float, pitch: float, entries: str = ""
    ) -> tuple[npt.NDArray[np.float32], int, list[Interval]]:
        """Return samples, their rate, and the phones spoken, with pauses as SIL.

        Args:
            text, voice, speed, pitch: as in `speak`.
            entries: additional lines "word : phones" of the dictionary, in flite's own phones.
        """
        features = ["--setf", f"duration_stretch={1 / speed:.5f}", "--setf", f"f0_shift={pitch:.5f}"]
        with _engine_folder() as folder:
            wave, addenda = folder / "speech.wav", folder / "addenda.txt"
            if entries:
                addenda.write_text(entries, encoding="ascii")
                features += ["-add_lex", str(addenda)]
            printed = _run(["flite", "-voice", voice, *features, "-psdur", "-t", text, "-o", str(wave)])
            samples, rate = _read_wave(wave, self.name)
        return samples, rate, _parse_phones(printed, len(samples) / rate)

    def _words(self, text: str, voice: str, phones: Sequence[Interval]) -> tuple[Word, ...]:
        # The diphone voice is the fastest; all English voices share the text analysis and the dictionary.
        voice = "kal16" if "kal16" in self._installed else voice
        names: list[str] = []
        for name in _run(["flite", "-voice", voice, "-pw", "-t", text, "none"]).split():
            if name.startswith("'") and names:
                names[-1] += name  # "john 's", "he 'll": one word, one syllabification
            else:
                names.append(name.lstrip("_"))
        new = sorted({name for name in names if name not in self._pronunciations})
        if new:
            self._pronunciations.update(zip(new, _pronounce(new, voice), strict=True))
        owners = assign_words([phone.label for phone in phones], [self._pronunciations[name] for name in names])
        words = []
        for index, name in enumerate(names):
            own = tuple(phone for phone, owner in zip(phones, owners, strict=True) if owner == index)
            if own:
                words.append(Word(name, own[0].start, own[-1].end, own))
        return tuple(words)


def _arpabet(phone: str) -> str:
    return {"ax": "AH", "axr": "ER", "pau": "SIL", "ssil": "SIL", "brth": "SIL"}.get(phone, phone.upper())


def _parse_phones(printed: str, duration: float) -> list[Interval]:
    """Read flite's list "phone:end"; ends are clipped to the audio, which rounding may exceed by a frame."""
    phones, time = [], 0.0
    for item in printed.split():
        label, _, end = item.rpartition(":")
        stop = min(float(end), duration)
        phones.append(Interval(_arpabet(label), time, stop))
        time = stop
    return phones


def _pronounce(words: Sequence[str], voice: str) -> list[tuple[str, ...]]:
    """Return the phones of words spoken alone; commas make a pause between them."""
    groups: list[list[str]] = [[]]
    for phone in _run(["flite", "-voice", voice, "-ps", "-t", ", ".join(words), "none"]).split():
        if phone != "pau":
            groups[-1].append(_arpabet(phone))
        elif groups[-1]:
            groups.append([])
    found = [tuple(group) for group in groups if group]
    if len(found) == len(words):
        return found
    if len(words) == 1:
        return [tuple(phone for group in found for phone in group)]
    half = len(words) // 2
    return _pronounce(words[:half], voice) + _pronounce(words[half:], voice)


def assign_words(phones: Sequence[str], pronunciations: Sequence[Sequence[str]]) -> list[int]:
    """Return for each phone spoken the index of its word, never decreasing; -1 for pauses (SIL).

    It is the cheapest alignment with the pronunciations of the words spoken alone. Connected speech reduces and drops
    phones, so that these ("the", "and") differ a little. A pause may only fall between words, or costs as much as five
    phones.
    """
    target = [(symbol, word) for word, symbols in enumerate(pronunciations) for symbol in (*symbols, "#")]
    delete = [0.0 if symbol == "#" else 1.0 for symbol, _ in target]
    insert = [5.0 if phone == "SIL" else 1.0 for phone in phones]
    rows = [[0.0]]
    for cost in delete:
        rows[0].append(rows[0][-1] + cost)
    for phone, extra in zip(phones, insert, strict=True):
        above, row = rows[-1], [rows[-1][0] + (0.0 if phone == "SIL" else extra)]
        for j, (symbol, _) in enumerate(target):
            row.append(min(above[j] + _swap(phone, symbol), above[j + 1] + extra, row[j] + delete[j]))
        rows.append(row)
    owners = [-1] * len(phones)
    i, j = len(phones), len(target)
    while i > 0:
        if j > 0 and rows[i][j] == rows[i - 1][j - 1] + _swap(phones[i - 1], target[j - 1][0]):
            i, j = i - 1, j - 1
            owner = target[j][1]
        elif j > 0 and rows[i][j] == rows[i][j - 1] + delete[j - 1]:
            j -= 1
            continue
        else:
            i -= 1
            # An extra phone belongs to the word it stands in, or to the next one when it stands at a word's start.
            owner = target[min(j, len(target) - 1)][1] if target else -1
        owners[i] = -1 if phones[i] == "SIL" else owner
    return owners


def _swap(phone: str, symbol: str) -> float:
    if phone == symbol or (phone == "SIL" and symbol == "#"):
        return 0.0
    if phone == "SIL" or symbol == "#":
        return 100.0
    return 0.6 if (phone in NUCLEI) == (symbol in NUCLEI) else 1.6


class Espeak:
    """eSpeak NG (`espeak-ng` on PATH): a hundred languages, voice variants ("es", "en-us+f3"), phone times in IPA.

    The times come from its library; where only the program is installed, there are none.
    """

    name = "espeak-ng"
    voices = ("en-us", "en-us+f3", "en-us+m3", "en-gb", "en-gb+f2", "en-gb-scotland", "en-gb-x-rp+f4")
    reader = ("en-us",)
    licence = "spoken by eSpeak NG (program GPL-3.0; its output is unrestricted)"

    @cached_property
    def _library(self) -> str | None:
        return ctypes.util.find_library("espeak-ng")

    def check(self, voices: Sequence[str]) -> None:
        """See `Engine.check`."""
        if shutil.which("espeak-ng") is None:
            raise MissingDependencyError("espeak-ng is not on PATH: apt-get install espeak-ng")
        for voice in voices:
            try:
                _run(["espeak-ng", "-q", "-v", voice, "a"])
            except AudioError as error:
                raise InputError(f"espeak-ng cannot use the voice {voice!r}: {error}") from error

    def speak(self, text: str, voice: str, *, speed: float, pitch: float) -> Spoken:
        """See `Engine.speak`; the defaults are 175 words per minute and pitch 50 of 99."""
        # Its dictionaries hold composed letters.
        text = unicodedata.normalize("NFC", text)
        rate, height = str(round(175 * speed)), str(min(99, round(50 * pitch)))
        if self._library is None:
            return _speak(["espeak-ng", "-v", voice, "-s", rate, "-p", height, "--stdin", "-w"], text, pitch)
        program = [sys.executable, "-I", str(Path(__file__).with_name("espeak_events.py"))]
        spoken, printed = _speak_and_print([*program, self._library, voice, rate, height], text, pitch, self.name)
        return replace(spoken, words=espeak_words(json.loads(printed)))


def espeak_words(spoken: Mapping[str, Any]) -> tuple[Word, ...]:
    """Return the words of what `espeak_events` printed: each with its phones, which last until the next event.

    Words without a phone of their own ("de" in "de el", spoken as one) are joined to the next one. Phones named in
    parentheses are switches of the language ("(en)"); modifiers alone ("ʲ") belong to the phone before them.
    """
    rate = spoken["sample_rate"]
    events = [event for event in spoken["events"] if not event[2].startswith("(")]
    words: list[tuple[str, list[Interval]]] = []
    for index, (kind, sample, label) in enumerate(events):
        label = label.strip()
        if kind == "word":
            if words and not words[-1][1]:
                label = f"{words.pop()[0]} {label}"
            words.append((label, []))
        elif label and words:
            end = next((later for kind, later, _ in events[index + 1 :] if kind == "phone"), spoken["num_samples"])
            phones = words[-1][1]
            if phones and all(unicodedata.category(char) in ("Lm", "Mn") for char in label):
                phones[-1] = Interval(phones[-1].label + label, phones[-1].start, end / rate)
            else:
                phones.append(Interval(label, sample / rate, end / rate))
    return tuple(Word(label, phones[0].start, phones[-1].end, tuple(phones)) for label, phones in words if phones)


class Piper:
    """Piper (`piper` on PATH): neural voices of fixed pitch, each an .onnx file with its .onnx.json; no phone times."""

    name = "piper"
    voices = reader = ()
    licence = "spoken by Piper; the licence is that of the voice, see its model card"

    def check(self, voices: Sequence[str]) -> None:
        """See `Engine.check`."""
        if shutil.which("piper") is None:
            raise MissingDependencyError("piper is not on PATH: pip install piper-tts")
        if not voices:
            raise InputError("piper has no default voices: name .onnx files by --voices")
        for voice in voices:
            missing = [file for file in (voice, f"{voice}.json") if not Path(file).is_file()]
            if missing:
                raise InputError(f"{missing[0]}: no such file; a voice of piper is an .onnx file and its .onnx.json")

    def speak(self, text: str, voice: str, *, speed: float, pitch: float) -> Spoken:
        """See `Engine.speak`."""
        return _speak(["piper", "--model", voice, "--length_scale", f"{1 / speed:.5f}", "--output_file"], text, 1.0)


ENGINES: dict[str, Callable[[], Engine]] = {"flite": Flite, "espeak-ng": Espeak, "piper": Piper}


def open_engine(
    engine: str | Engine, voices: str | Sequence[str] | None = None, *, single: bool = False
) -> tuple[Engine, tuple[str, ...]]:
    """Return an engine and the voices to use, both checked.

    Args:
        engine: a name of the registry, or an engine.
        voices: names of voices, or one string with commas between them; None for the engine's default ones.
        single: one voice by default.
    """
    if isinstance(engine, str):
        if engine not in ENGINES:
            raise InputError(f"unknown speech engine {engine!r}; choose {', '.join(ENGINES)}")
        engine = ENGINES[engine]()
    default = engine.reader if single else engine.voices
    names = default if voices is None else voices.split(",") if isinstance(voices, str) else voices
    chosen = tuple(dict.fromkeys(name.strip() for name in names))
    engine.check(chosen)
    return engine, chosen
