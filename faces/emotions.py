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


GROUPINGS: dict[str, dict[str, str]] = {
    "six": {emotion: "angry" if emotion == "disgust" else emotion for emotion in EMOTIONS},
    "valence": {
        "angry": "negative",
        "disgust": "negative",
        "fear": "negative",
        "happy": "positive",
        "sad": "negative",
        "surprise": "positive",
        "neutral": "neutral",
    },
}
"""Coarser classes in publications on FER2013: emotion → class. ``six`` merges the rare disgust into
angry; ``valence`` counts surprise as positive, as most do, though a surprise may be neither."""


def canonical_emotion(name: str) -> str:
    """Return the name in ``EMOTIONS`` that ``name`` stands for, whatever its case or usual alias.

    A ``ValueError`` lists the known ones, if it is none of these.
    """
    key = name.strip().lower()
    key = ALIASES.get(key, key)
    if key not in EMOTIONS:
        raise ValueError(
            f"unknown emotion {name!r}; expected one of {', '.join(EMOTIONS)} "
            f"(or an alias: {', '.join(ALIASES)})"
        )
    return key
