"""``twostage analyze`` with stand-ins for the models, in a process that tests may kill.

``python -m tests.twostage.batch.scripted_run SECONDS analyze …``: each image takes SECONDS.
"""

from __future__ import annotations

import os
import signal
import sys
import time

import numpy as np

from faces.pipeline import Pipeline
from faces.types import Box, Detection
from tests.stand_ins import ScriptedClassifier, ScriptedDetector, brightness
from twostage import cli
from twostage.batch import resume


def faces_by_size(image: np.ndarray) -> tuple[Detection, ...]:
    """As many faces as the image's height says; an image of 13 pixels kills its process."""
    if len(image) == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(float(os.environ.get("SCRIPTED_SECONDS", "0")))
    return tuple(Detection(Box(2, n, 12, n + 9), 0.9 - n / 100) for n in range(len(image) % 4))


def scripted_pipeline(*models: object, **options: object) -> Pipeline:
    return Pipeline(ScriptedDetector(faces_by_size), ScriptedClassifier(brightness))


def scripted_fingerprint(stage: str, name: str) -> dict[str, str]:
    return {name: "0123456789abcdef" * 4}


def main(argv: list[str]) -> int:
    os.environ["SCRIPTED_SECONDS"] = argv[0]
    if "ray" in argv:
        from twostage.batch import ray_engine

        ray_engine.BLOCK_IMAGES, ray_engine.ROWS_PER_FILE = 4, 10
    resume.PARQUET_SECONDS = 0.05  # else a run is over before its first file
    cli.load_pipeline = scripted_pipeline
    cli.fingerprint = scripted_fingerprint
    return cli.main(argv[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
