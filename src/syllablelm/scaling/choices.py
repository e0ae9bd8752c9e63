"""Named choices of the scaling verbs, importable without numpy."""

from __future__ import annotations

from typing import Literal

Design = Literal["isoflop", "ratio", "grid"]
Per = Literal["token", "second"]
Figure = Literal["loss", "scores", "lines", "tokens"]
