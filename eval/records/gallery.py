"""The worst errors of a detector-classifier pair on one page, sorted by kind.

The page shows images of the data: it is for the eyes of who may see these, and never committed.
"""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from eval.data.pairs import Answers
from faces.boxes import Verdict, iou_matrix
from faces.coco import AnnotatedImage
from faces.crops import crop_face
from faces.emotions import EMOTIONS
from faces.files import write_text
from faces.pipeline import Image
from faces.types import Box

KINDS = {
    "missed": "Missed faces, the largest first",
    "false": "False detections, the most confident first",
    "duplicated": "Faces found again, the most confident first",
    "misclassified": "Wrong emotions, the most confident first",
}
"""The kinds of errors, as headings."""

MOST = 60
"""Errors shown of each kind."""

SIDE = 160
"""Side of a thumbnail in pixels."""

CONTEXT = 0.5
"""Margin around the face in a thumbnail, as a fraction of the box."""

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem }
section div { display: grid; grid-template-columns: repeat(auto-fill, minmax(9em, 1fr)); gap: 1em }
figure { margin: 0; } img { width: 100%; border-radius: 4px; } figcaption { font-size: 13px; }
small { opacity: .7; overflow-wrap: anywhere; }
"""


@dataclass
class Gallery:
    """Collects errors image by image; a ``Watcher`` of ``eval.data.pairs.answer_all``."""

    # kind → (badness, caption, file name, JPEG)
    errors: dict[str, list[tuple[float, str, str, bytes]]] = field(
        default_factory=lambda: {kind: [] for kind in KINDS}
    )

    def __call__(self, scene: AnnotatedImage, image: Image, answers: Answers) -> None:
        """Look at the last image's answers."""
        found, rows = answers.detections[-1], answers.probabilities[-1]
        matching, shown = answers.matchings[-1], answers.shown[-1]
        hit = set(matching.face.tolist())
        for index, face in enumerate(scene.faces):
            if not face.ignored and index not in hit:
                boxes = found.boxes[shown]
                overlap = iou_matrix(boxes, [face.box.as_tuple()]).max() if len(boxes) else 0.0
                caption = f"{face.category}, {face.box.height:.0f} px high; best IoU {overlap:.2f}"
                self._add("missed", face.box.height, caption, scene, image, face.box)
        for place, index in enumerate(shown):
            box, score = Box(*found.boxes[index].tolist()), float(found.scores[index])
            said = int(rows[index].argmax())
            answer = f"{EMOTIONS[said]} {rows[index, said]:.0%}"
            verdict, face_index = matching.verdict[place], int(matching.face[place])
            if verdict == Verdict.FALSE_POSITIVE and not scene.unlabelled_faces:
                self._add("false", score, f"face {score:.0%}, {answer}", scene, image, box)
            elif verdict == Verdict.DUPLICATE:
                self._add("duplicated", score, f"face {score:.0%}, {answer}", scene, image, box)
            elif verdict == Verdict.MATCHED:
                face = scene.faces[face_index]
                if face.category != EMOTIONS[said]:
                    doubt = " (doubtful)" if face.doubtful else ""
                    caption = f"{answer}; is {face.category}{doubt}"
                    badness = float(rows[index, said])
                    self._add("misclassified", badness, caption, scene, image, box)

    def _add(
        self, kind: str, badness: float, caption: str, scene: AnnotatedImage, image: Image, box: Box
    ) -> None:
        kept = self.errors[kind]
        kept.append((badness, caption, scene.file_name, _thumbnail(image, box)))
        if len(kept) > 2 * MOST:
            self.errors[kind] = sorted(kept, key=lambda e: -e[0])[:MOST]

    def write(self, path: Path, title: str) -> None:
        """Write the page as one HTML file that needs nothing beside it."""
        parts = [
            "<!doctype html><html lang=en><meta charset=utf-8>"
            "<meta name=viewport content='width=device-width'>"
            f"<title>{html.escape(title)}</title><style>{_STYLE}</style>"
            f"<h1>{html.escape(title)}</h1>"
        ]
        for kind, heading in KINDS.items():
            errors = sorted(self.errors[kind], key=lambda e: -e[0])[:MOST]
            cards = "".join(_card(*error[1:]) for error in errors) or "<p>None.</p>"
            parts.append(f"<section><h2>{heading}</h2><div>{cards}</div></section>")
        write_text(path, "\n".join(parts))


def _card(caption: str, name: str, jpeg: bytes) -> str:
    source = base64.b64encode(jpeg).decode("ascii")
    shown = html.escape(caption)
    return (
        f'<figure><img alt="{html.escape(caption, quote=True)}" '
        f'src="data:image/jpeg;base64,{source}">'
        f"<figcaption>{shown}<br><small>{html.escape(name)}</small></figcaption></figure>"
    )


def _thumbnail(image: NDArray[np.uint8], box: Box) -> bytes:
    crop = crop_face(image, box, CONTEXT)
    scale = SIDE / crop.shape[0]
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    shown = cv2.resize(crop, (SIDE, SIDE), interpolation=method)
    low, high = (
        (round(SIDE / 2 + sign * box.width), round(SIDE / 2 + sign * box.height))
        for sign in (-scale / 2, scale / 2)
    )
    cv2.rectangle(shown, low, high, (255, 200, 0), 1)
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(shown, cv2.COLOR_RGB2BGR))
    assert ok
    return bytes(data)
