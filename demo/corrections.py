"""What visitors say that faces really show: kept, exported and sent as the service's feedback is.

Nothing here imports Streamlit.
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import urllib3

from faces.command import UserError
from faces.emotions import EMOTIONS

NOT_A_FACE = "not a face"
"""Stands in for an emotion where the detector was wrong."""

COLUMNS = (
    *("file", "image_id", "face_index", "label", "agreement", "senders"),
    *EMOTIONS,
    *("not_a_face", "predicted", "classifier", "detector", "time"),
)
"""Of the manifest, as in ``twostage feedback export``."""

SECONDS = 10.0
"""How long a service may take for each of the two requests of a correction."""


@dataclass(frozen=True)
class Correction:
    """What a visitor says of a face.

    Attributes:
        image_id: 32 hexadecimal digits, a hash of the photo.
        face: its number in the photo.
        label: one of ``EMOTIONS``, or ``NOT_A_FACE``.
        crop: what the classifier saw, as PNG.
        predicted: the most likely emotion after the classifier.
        classifier: its name.
        detector: its name.
        time: seconds since 1970.
    """

    image_id: str
    face: int
    label: str
    crop: bytes
    predicted: str
    classifier: str
    detector: str
    time: float


def archive(corrections: Iterable[Correction]) -> bytes:
    """Return a ZIP with ``<emotion>/<image_id>-<face>.png`` and ``manifest.csv``."""
    text, packed = io.StringIO(), io.BytesIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    with zipfile.ZipFile(packed, "w") as folder:
        for one in corrections:
            file = f"{one.label}/{one.image_id}-{one.face}.png" if one.label in EMOTIONS else ""
            if file:
                folder.writestr(file, one.crop)
            votes = (float(one.label == name) for name in (*EMOTIONS, NOT_A_FACE))
            models = one.predicted, one.classifier, one.detector, one.time
            writer.writerow((file, one.image_id, one.face, one.label, 1.0, 1, *votes, *models))
        folder.writestr("manifest.csv", text.getvalue())
    return packed.getvalue()


def send(correction: Correction, url: str, token: str = "") -> None:
    """Send the crop of a face, and what it shows, to a service of `twostage serve`.

    Args:
        correction: what to send; of the photo only the crop.
        url: of the service, such as ``http://localhost:8000``.
        token: as its ``--token``; "" is none.

    Raises:
        UserError: the service cannot be reached or refuses.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    image = ("face.png", correction.crop, "image/png")
    fields = {"image_buf": image, "no_detector": "true"}
    answer = _post(f"{url}/v1/predict", headers, fields=fields)
    said = {
        "image_id": answer["results"][0]["image_id"],
        "face_index": 1,
        "feedback": [correction.label],
    }
    headers["Content-Type"] = "application/json"
    _post(f"{url}/v1/feedback", headers, body=json.dumps(said).encode())


def _post(address: str, headers: dict[str, str], **content: Any) -> dict[str, Any]:
    try:
        answer = urllib3.request(
            "POST", address, headers=headers, timeout=SECONDS, retries=False, **content
        )
        found: dict[str, Any] = answer.json()
    except (urllib3.exceptions.HTTPError, ValueError) as error:
        raise UserError(f"{address}: no answer of a service") from error
    if answer.status != 200:
        raise UserError(f"{address}: {found.get('detail', answer.status)}")
    return found
