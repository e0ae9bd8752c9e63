"""Program that speaks a text with eSpeak NG's library, which tells when each word and phone begins.

Run as ``python espeak_events.py LIBRARY VOICE RATE PITCH OUT.wav``, the text on standard input; it writes the speech
and prints JSON: `sample_rate`, `num_samples` and `events` [[kind, sample, text], ...], kind "word" or "phone" (in IPA,
"" for a pause). It is a process of its own because the library serves one thread at a time.
"""

from __future__ import annotations

import ctypes
import json
import sys
import wave
from typing import Any

# Of espeak-ng/speak_lib.h.
SYNCHRONOUS, PHONEME_EVENTS, PHONEME_IPA = 2, 1, 2
END, WORD, PHONEME = 0, 1, 7
RATE, PITCH = 1, 3
# "[[...]]" is phones, as for the program.
CHARS_UTF8, PHONEMES, END_PAUSE = 1, 0x100, 0x1000


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user", ctypes.c_void_p),
        ("id", _Id),
    )


class _Voice(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("unused", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


def speak(library: str, voice: str, rate: int, pitch: int, out: str, text: str) -> dict[str, Any]:
    """Speak a text into a file; return sample rate, number of samples and events."""
    espeak = ctypes.CDLL(library)
    sample_rate = espeak.espeak_Initialize(SYNCHRONOUS, 0, None, PHONEME_EVENTS | PHONEME_IPA)
    # As the program espeak-ng: a name ("es+f3") or else a language ("fr-fr").
    language = ctypes.byref(_Voice(languages=voice.encode()))
    named = espeak.espeak_SetVoiceByName(voice.encode()) == 0 or espeak.espeak_SetVoiceByProperties(language) == 0
    if sample_rate <= 0 or not named:
        raise SystemExit(f"the library cannot use the voice {voice!r}")
    espeak.espeak_SetParameter(RATE, rate, 0)
    espeak.espeak_SetParameter(PITCH, pitch, 0)
    samples, events = bytearray(), list[tuple[str, int, str]]()

    def collect(chunk: Any, count: int, found: Any) -> int:
        if count > 0:
            samples.extend(ctypes.string_at(chunk, 2 * count))
        index = 0
        while found[index].type != END:
            event = found[index]
            if event.type == WORD:
                first = max(event.text_position - 1, 0)
                events.append(("word", event.sample, text[first : first + event.length]))
            elif event.type == PHONEME:
                # Names are cut at eight bytes, which may be inside of a letter.
                events.append(("phone", event.sample, event.id.string.decode("utf-8", "ignore")))
            index += 1
        return 0

    listener = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Event))(collect)
    espeak.espeak_SetSynthCallback(listener)
    data = text.encode()
    size, none = ctypes.c_size_t(len(data) + 1), ctypes.c_void_p()
    status = espeak.espeak_Synth(data, size, 0, 1, 0, CHARS_UTF8 | PHONEMES | END_PAUSE, none, none)
    if status != 0:
        raise SystemExit(f"the library failed with status {status}")
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, sample_rate, 0, "NONE", ""))
        file.writeframes(bytes(samples))
    return {"sample_rate": sample_rate, "num_samples": len(samples) // 2, "events": events}


if __name__ == "__main__":
    library, voice, rate, pitch, out = sys.argv[1:]
    spoken = speak(library, voice, int(rate), int(pitch), out, sys.stdin.buffer.read().decode())
    sys.stdout.buffer.write(json.dumps(spoken).encode())
