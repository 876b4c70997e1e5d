"""The seven emotions, in the order of FER2013, and the names under which people file them."""

from __future__ import annotations

EMOTIONS: tuple[str, ...] = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""FER2013's class order (Goodfellow et al., 2013); entry i of any (7,) array is ``EMOTIONS[i]``."""

ALIASES: dict[str, str] = {
    "anger": "angry",
    "disgusted": "disgust",
    "fearful": "fear",
    "afraid": "fear",
    "scared": "fear",
    "happiness": "happy",
    "joy": "happy",
    "sadness": "sad",
    "surprised": "surprise",
    "neutrality": "neutral",
    "calm": "neutral",
}
"""Other spellings in circulation (FER+, RAF-DB, AffectNet, KDEF folders) → the name used here."""


def canonical_emotion(name: str) -> str:
    """Return the name in ``EMOTIONS`` that ``name`` stands for, whatever its case or usual alias.

    Raises:
        ValueError: ``name`` is no known emotion; the message lists the ones that are.
    """
    key = name.strip().lower()
    key = ALIASES.get(key, key)
    if key not in EMOTIONS:
        raise ValueError(
            f"unknown emotion {name!r}; expected one of {', '.join(EMOTIONS)} "
            f"(or an alias: {', '.join(ALIASES)})"
        )
    return key
