"""Labels of everything that can be moved: one table for the exported page and the viewer."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from deja_vu.motion.actor import PRESETS


@dataclass(frozen=True)
class Control:
    """A slider."""

    name: str
    """In programs: an expression's own name, or one of `TURNS`."""
    label: str
    limit: float = 1.0
    """Largest value: a whole movement, deviations, or degrees."""
    hint: str = ""
    """What a positive value does."""
    low: float = 0.0
    """Least value."""
    step: float = 0.01
    """Between values; 1 where they are degrees."""


@dataclass(frozen=True)
class Section:
    """Sliders that stand together."""

    title: str
    controls: tuple[Control, ...]
    opened: bool
    """Whether it is unfolded at first."""


@dataclass(frozen=True)
class Region:
    """A part of the face, and the expressions that belong to it."""

    title: str
    prefixes: tuple[str, ...]
    """How the names of its expressions begin. One alone goes without saying and is left out of the labels."""
    first: tuple[str, ...] = ()
    """How the names of those begin that are wanted most, and so come first."""
    opened: bool = False


TURNS = (
    Control("headYaw", "Head yaw", 45.0, "to the avatar's left, degrees", -45.0, 1.0),
    Control("headPitch", "Head pitch", 30.0, "up, degrees", -30.0, 1.0),
    Control("headRoll", "Head roll", 30.0, "to the avatar's right shoulder, degrees", -30.0, 1.0),
    Control("gazeYaw", "Gaze yaw", 30.0, "to the avatar's left, degrees", -30.0, 1.0),
    Control("gazePitch", "Gaze pitch", 12.0, "up, degrees", -12.0, 1.0),
)
"""Turns of the head and of both eyes together, relative to the person at rest; signs as `Angles` has them. Lids do not
follow the eyes: turned further up or down, narrow eyes show no iris."""
HEAD_AND_GAZE = "Head and gaze"
REGIONS = (
    Region("Jaw and tongue", ("jaw", "tongue"), ("jawOpen",), opened=True),
    Region("Mouth", ("mouth",), ("mouthSmile", "mouthFrown", "mouthPucker", "mouthFunnel"), opened=True),
    Region("Eyes", ("eye",), ("eyeBlink", "eyeWide", "eyeSquint")),
    Region("Brows", ("brow",)),
    Region("Cheeks and nose", ("cheek", "nose")),
)
OTHERS = "Other expressions"
VOWELS = {"a": "A (ah)", "e": "E (eh)", "i": "I (ee)", "o": "O (oh)", "u": "U (oo)"}
"""Presets that are shapes of the mouth in speech."""
WORDS = {
    "expression": "Expression",
    "vowel": "Vowel",
    "motion": "Motion",
    "no_motion": "No motion",
    "play": "Play",
    "pause": "Pause",
    "frame": "Frame",
    "speed": "Speed",
    "reset": "Reset face and head",
    "reset_section": "Reset",
    "background": "Background",
    "picture": "Save picture",
    "front": "Camera to the front",
    "unfilmed": "Never seen from here: a guess",
}
"""Names of everything else that both have."""


def presets() -> dict[str, dict[str, str]]:
    """Labels of the presets by name, under the word for their kind."""
    faces = {name: name.capitalize() for name in PRESETS if name not in VOWELS}
    return {WORDS["expression"]: faces, WORDS["vowel"]: {name: VOWELS[name] for name in PRESETS if name in VOWELS}}


def sections(expressions: Iterable[str], limits: tuple[float, float] = (0.0, 1.0)) -> tuple[Section, ...]:
    """Sliders of a head's expressions by region; those that no region claims stand in a section of their own.

    Args:
        expressions: names of the head's expressions.
        limits: least and largest value of those that no region claims.
    """
    left = list(expressions)
    found = []
    for region in REGIONS:
        ours = [name for name in left if name.startswith(region.prefixes)]
        left = [name for name in left if name not in ours]
        ours.sort(key=lambda name: _rank(name, region.first))
        prefix = region.prefixes[0] if len(region.prefixes) == 1 else ""
        if ours:
            found.append(Section(region.title, tuple(Control(name, label(name, prefix)) for name in ours), region.opened))
    if left:
        low, high = limits
        found.append(Section(OTHERS, tuple(Control(name, label(name), high, low=low) for name in left), opened=not found))
    return tuple(found)


def label(name: str, prefix: str = "") -> str:
    """Words of an expression's name: mouthDimpleLeft is "Dimple left" in the mouth's section, exp_03 "Exp 03".

    Args:
        name: of the expression.
        prefix: left out, as the section says it already.
    """
    rest = name[len(prefix) :] if len(name) > len(prefix) else name
    words = re.sub(r"([a-z])([A-Z0-9])", r"\1 \2", rest.replace("_", " ")).lower()
    return words[0].upper() + words[1:]


def _rank(name: str, first: tuple[str, ...]) -> int:
    """Place of a name among those that come first; the others share the last."""
    return next((place for place, beginning in enumerate(first) if name.startswith(beginning)), len(first))
