"""Speech engines on phones instead of text, with the stress, syllables and intonation of a word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from syllablelm.core.errors import AudioError
from syllablelm.data.alignment import Word
from syllablelm.data.syllables import NUCLEI, Interval, split_stress
from syllablelm.itemsets.pronunciations import Phones, plain
from syllablelm.tts.engines import Espeak, Flite, Spoken

# A word that flite's own dictionary lacks and that it does not spell letter by letter.
_WORD = "wug"
# ARPAbet in the phone names of eSpeak NG's American English; vowels before an R that belongs to them apart.
_ESPEAK: dict[str, str] = {
    "AA": "A:", "AE": "a", "AH": "V", "AO": "O:", "AW": "aU", "AY": "aI", "EH": "E", "ER": "3:", "EY": "eI", "IH": "I",
    "IY": "i:", "OW": "oU", "OY": "OI", "UH": "U", "UW": "u:", "B": "b", "CH": "tS", "D": "d", "DH": "D", "F": "f",
    "G": "g", "HH": "h", "JH": "dZ", "K": "k", "L": "l", "M": "m", "N": "n", "NG": "N", "P": "p", "R": "r", "S": "s",
    "SH": "S", "T": "t", "TH": "T", "V": "v", "W": "w", "Y": "j", "Z": "z", "ZH": "Z",
}  # fmt: skip
_ESPEAK_BEFORE_R = {"AA": "A@", "AO": "O@", "EH": "e@", "IH": "i@3", "UH": "U@"}
_ESPEAK_UNSTRESSED = {"AH": "@", "ER": "3", "IY": "i"}


class PhoneFlite(Flite):
    """Flite, told ARPAbet phones with stress digits instead of text: "S T R AO1 NG G ER0".

    The phones become the entry of one invented word in flite's dictionary, and that word is spoken. Words and non-words
    differ in their phones only; a real word equals flite's own rendering to the sample. (``flite -p`` speaks phones
    too, but without syllables and intonation.)
    """

    def speak(self, text: str, voice: str, *, speed: float, pitch: float) -> Spoken:
        """See `Engine.speak`; AudioError where the voice does not speak these very phones."""
        phones = text.split()
        pitch = 1.0 if voice in self.fixed_pitch else pitch
        samples, rate, found = self.render(_WORD, voice, speed=speed, pitch=pitch, entries=_entry(phones))
        own = tuple(phone for phone in found if phone.label != "SIL")
        if tuple(phone.label for phone in own) != plain(phones):
            raise AudioError(f"flite speaks {text!r} as {' '.join(phone.label for phone in own)!r}")
        return Spoken(samples, rate, (Word(" ".join(plain(phones)), own[0].start, own[-1].end, own),), pitch)

    def find_stress(self, word: str, phones: Sequence[str], *, voice: str) -> Phones | None:
        """Return the phones of a word with flite's own stress (AH0 for schwa), for dictionaries without stress.

        Flite does not print stress, but stressed vowels are longer: each vowel is compared with itself in the same
        phones with all vowels stressed and with none. None if flite pronounces the word with other phones.
        """
        said = self._vowels(word, voice)
        if said is None or said[0] != plain(phones):
            return None
        # Flite has two phones for AH, schwa and the stressed vowel.
        high = self._vowels(_WORD, voice, [f"{phone}1" if phone in NUCLEI else phone for phone in phones])
        low = self._vowels(_WORD, voice, [f"{phone}0" if phone in NUCLEI else phone for phone in phones])
        if high is None or low is None:
            return None
        marked = []
        for phone, length, long, short in zip(phones, said[1], high[1], low[1], strict=True):
            digit = ("1" if abs(length - long) <= abs(length - short) else "0") if phone in NUCLEI else ""
            marked.append(phone + digit)
        return tuple(marked)

    def _vowels(self, text: str, voice: str, entry: Sequence[str] = ()) -> tuple[Phones, list[float]] | None:
        """Return phones and their durations in seconds, without pauses."""
        try:
            _, _, found = self.render(text, voice, speed=1, pitch=1, entries=_entry(entry) if entry else "")
        except AudioError:
            return None
        own: list[Interval] = [phone for phone in found if phone.label != "SIL"]
        return tuple(phone.label for phone in own), [phone.end - phone.start for phone in own]


def _entry(phones: Sequence[str]) -> str:
    return f"{_WORD} : {' '.join(map(_to_flite, phones))}\n"


def _to_flite(phone: str) -> str:
    """ "AH1" -> "ah1", "AH0" -> "ax0", "EH2" -> "eh1": flite knows two degrees of stress and writes schwa apart."""
    symbol, digit = split_stress(phone)
    if symbol not in NUCLEI:
        return symbol.lower()
    stress = "0" if digit in ("", "0") else "1"
    return "ax0" if (symbol, stress) == ("AH", "0") else symbol.lower() + stress


class PhoneEspeak(Espeak):
    """eSpeak NG, told ARPAbet phones with stress digits instead of text; for its voices of American English."""

    voices = ("en-us",)

    def speak(self, text: str, voice: str, *, speed: float, pitch: float) -> Spoken:
        """See `Engine.speak`; the word has the phones that the engine names."""
        phones = text.split()
        spoken = super().speak(f"[[{_to_espeak(phones)}]]", voice, speed=speed, pitch=pitch)
        found = tuple(phone for word in spoken.words for phone in word.phones)
        if not found:
            return spoken
        return replace(spoken, words=(Word(" ".join(plain(phones)), found[0].start, found[-1].end, found),))


def _to_espeak(phones: Sequence[str]) -> str:
    """["S", "T", "AA1", "R"] -> "st'A@"."""
    written = []
    index = 0
    while index < len(phones):
        symbol, digit = split_stress(phones[index])
        following = [split_stress(phone)[0] for phone in phones[index + 1 : index + 3]]
        rhotic = symbol in _ESPEAK_BEFORE_R and following[:1] == ["R"] and not set(following[1:]) & set(NUCLEI)
        name = _ESPEAK_BEFORE_R[symbol] if rhotic else _ESPEAK[symbol]
        if digit in ("", "0"):
            name = _ESPEAK_UNSTRESSED.get(symbol, name)
        written.append({"1": "'", "2": ","}.get(digit, "") + name)
        index += 2 if rhotic else 1
    # A bar keeps neighbours from being read as one name.
    return "|".join(written)
