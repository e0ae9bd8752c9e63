"""Flite on phones instead of text, with the stress, syllables and intonation of a word."""

from __future__ import annotations

from collections.abc import Sequence

from syllablelm.core.errors import AudioError
from syllablelm.data.alignment import Word
from syllablelm.data.syllables import NUCLEI, Interval, split_stress
from syllablelm.itemsets.pronunciations import Phones, plain
from syllablelm.tts.engines import Flite, Spoken

# A word that flite's own dictionary lacks and that it does not spell letter by letter.
_WORD = "wug"


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
