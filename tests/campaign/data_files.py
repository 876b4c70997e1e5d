"""Seeded damage to every kind of data file; the readers may only answer, or refuse in one line.

``python -m tests.campaign.data_files READER FOLDER`` reads every file of a folder in one process
and prints a JSON line for each: what the campaign starts and watches.
"""

from __future__ import annotations

import codecs
import io
import json
import random
import re
import shutil
import sys
import tarfile
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from faces.command import UserError
from tests.campaign.process import ROOT, watch
from tests.stand_ins import FERPLUS_HEADER, write_coco, write_fer2013

LONGEST_MESSAGE = 1500
"""Characters; a longer one shows content of the file instead of a cause."""

SECONDS_PER_FILE = 20.0


@cache
def fer2013() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return write_fer2013(Path(folder, "a.csv"), dict.fromkeys(SPLITS, 2)).read_bytes()


SPLITS = ("Training", "PublicTest", "PrivateTest")


@cache
def coco() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return write_coco(Path(folder) / "a").json.read_bytes()


def results() -> bytes:
    rows = [
        {"image_id": i, "category_id": 1, "bbox": [4, 5, 30, 40.5], "score": 0.5} for i in (0, 1)
    ]
    return json.dumps(rows).encode()


def dataturks() -> bytes:
    points = [{"x": 0.2, "y": 0.2}, {"x": 0.6, "y": 0.75}]
    face = {"label": ["Face"], "notes": "", "points": points, "imageWidth": 9, "imageHeight": 9}
    rows = [{"content": f"http://x/{i}.jpg", "annotation": [face], "extras": None} for i in (1, 2)]
    return "\n".join(map(json.dumps, rows)).encode()


def ferplus() -> bytes:
    rows = (f"{split},fer{n:07d}.png,4,1,0,0,0,0,0,0,0,0" for n, split in enumerate(_usages()))
    return "\n".join([FERPLUS_HEADER, *rows, ""]).encode()


def _usages() -> list[str]:
    return [split for split in SPLITS for _ in range(2)]


def scores() -> bytes:
    rows = ("row 0,0.1,0.1,0.1,0.4,0.1,0.1,0.1", "row 1,0,0,0,1,0,0,0")
    return "\n".join(["name,angry,disgust,fear,happy,sad,surprise,neutral", *rows, ""]).encode()


def card() -> bytes:
    return (ROOT / "weights" / "fast.json").read_bytes()


def config() -> bytes:
    from detection.modeling.config import load_config

    return str(load_config("mobilenet_fpn").dump()).encode()


def recipe() -> bytes:
    return (ROOT / "classification" / "recipes" / "simple_cnn.toml").read_bytes()


def plan() -> bytes:
    return (ROOT / "eval" / "ablation.toml").read_bytes()


def record() -> bytes:
    return (ROOT / "results" / "unsure.json").read_bytes()


def journal() -> bytes:
    lines = [{"run": 1, "detector": {"a": "b"}}, {"end": 5, "images": [["a", 1]], "failed": []}]
    lines += [{"retry": ["b"], "end": 5}, {"end": 9, "images": [], "failed": [["b", "why"]]}]
    return "".join(json.dumps(one) + "\n" for one in lines).encode()


def lines() -> bytes:
    emotions = dict.fromkeys("angry disgust fear happy sad surprise neutral".split(), 0.1)
    face = {"box": [1, 2, 3, 4], "score": 0.9, "emotions": emotions, "labels": [], "unsure": True}
    one = {"schema_version": 1, "source": "a", "width": 9, "height": 9, "faces": [face]}
    return (json.dumps(one) + "\n").encode() * 2


def truth() -> bytes:
    frame = [["a", 1, 2, 3, 4, "happy", 1.0]]
    clip = {"file": "a.mp4", "rate": 25.0, "frames": [frame, []]}
    return json.dumps({"info": {"seed": 0}, "clips": [clip]}).encode()


def names() -> bytes:
    return "# photos\na.jpg\nb/ü.png\n".encode()


@cache
def archive() -> bytes:
    """Return a zip that holds FER2013's csv."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("fer2013/fer2013.csv", fer2013())
    return file.getvalue()


@cache
def photos_tar() -> bytes:
    from tests.campaign.pictures import sample

    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as packed:
        for name in ("a.jpg", "b.png"):
            data = sample("jpeg")
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            packed.addfile(entry, io.BytesIO(data))
    return file.getvalue()


@cache
def photos_zip() -> bytes:
    from tests.campaign.pictures import sample

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.jpg", sample("jpeg"))
        packed.writestr("b.bmp", sample("bmp"))
    return file.getvalue()


def _read_coco(path: Path) -> object:
    from faces.coco import load_coco

    return load_coco(path)


def _read_results(path: Path) -> object:
    from faces.coco import load_coco, load_results

    good = path.with_name("good.json.truth")
    good.write_bytes(coco())
    return load_results(path, load_coco(good).images)


def _read_dataturks(path: Path) -> object:
    from detection.data.dataturks import read_dataturks

    return read_dataturks(path)


def _read_fer2013(path: Path) -> object:
    from classification.data.fer2013 import load_fer2013

    return load_fer2013(path, progress=False).differences_from_official()


def _read_ferplus(path: Path) -> object:
    from classification.data.fer2013 import load_fer2013
    from classification.data.ferplus import load_ferplus

    good = path.with_name("good.csv.data")
    good.write_bytes(fer2013())
    return load_ferplus(path, load_fer2013(good, progress=False)).majority()


def _read_scores(path: Path) -> object:
    from eval.data.score_files import read_scores

    return read_scores(path, ["row 0", "row 1"])


def _read_card(path: Path) -> object:
    from faces.provenance import read_card

    return read_card(path)


def _read_config(path: Path) -> object:
    from detection.modeling.config import load_config

    return load_config(path, resolved=True)


def _read_recipe(path: Path) -> object:
    from classification.training.recipe import load_recipe

    return load_recipe(path)


def _read_plan(path: Path) -> object:
    from eval.ablation import read_plan

    return read_plan(path)


def _read_record(path: Path) -> object:
    from eval.records.report import read_record

    return read_record(path, {"unsure"})


def _read_journal(path: Path) -> object:
    from twostage.batch.resume import read_journal

    return read_journal(path)


def _read_lines(path: Path) -> object:
    from twostage.batch.summary import describe, summarize

    return describe(summarize(path))


def _read_truth(path: Path) -> object:
    from eval.data.clips import read_clips

    folder = path.with_suffix(".clips")
    folder.mkdir()
    shutil.copy(path, folder / "truth.json")
    return read_clips(folder)


def _read_list(path: Path) -> object:
    from twostage.batch.sources import read_list

    return read_list(path)


def _read_photos(path: Path) -> object:
    from faces.images import read_image
    from faces.paths import ImageError
    from twostage.batch.sources import iter_sources

    found: list[object] = []
    for source in iter_sources([str(path)]):
        try:
            if isinstance(source, ImageError):
                raise source
            found.append(read_image(source.open(), source.name))
        except UserError as error:
            found.append(error)
    if all(isinstance(one, UserError) for one in found):
        raise UserError("; ".join(map(str, found)))
    return found


Reader = Callable[[Path], object]
READERS: dict[str, tuple[str, Callable[[], bytes], Reader]] = {
    "coco": (".json", coco, _read_coco),
    "results": (".json", results, _read_results),
    "dataturks": (".json", dataturks, _read_dataturks),
    "fer2013": (".csv", fer2013, _read_fer2013),
    "fer2013 zip": (".zip", archive, _read_fer2013),
    "ferplus": (".csv", ferplus, _read_ferplus),
    "scores": (".csv", scores, _read_scores),
    "card": (".json", card, _read_card),
    "config": (".yaml", config, _read_config),
    "recipe": (".toml", recipe, _read_recipe),
    "plan": (".toml", plan, _read_plan),
    "record": (".json", record, _read_record),
    "journal": (".jsonl.run", journal, _read_journal),
    "results of analyze": (".jsonl", lines, _read_lines),
    "clips": (".json", truth, _read_truth),
    "list": (".txt", names, _read_list),
    "photos tar": (".tar", photos_tar, _read_photos),
    "photos zip": (".zip", photos_zip, _read_photos),
}
"""Name → ending, a good file's content, the reader."""

NASTY = (
    *("null", "true", "-1", "0", "1e999", "-1e-999", "NaN", "Infinity", "0.5", "1e9", "256", "2.0"),
    *(
        '""',
        '"x"',
        "[]",
        "{}",
        "[[]]",
        '{"a": 1}',
        '"\\ud800"',
        '"\\u0000"',
        "9" * 5000,
        "[" * 3000,
    ),
    *(
        '"' + "x" * 70_000 + '"',
        "0x10",
        "01",
        "1_000",
        "- 1",
        "!!python/name:os.system",
        "*a",
        "\x00",
    ),
    *("2020-01-01", "'", ",", "\n", "=1+1", "\u202e", "﻿", "é", "\uff11"),
)
_TOKEN = re.compile(r'"[^"\n]*"|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|\b(?:null|true|false)\b|[\w.]+')


def _tokens(data: bytes, pick: random.Random) -> bytes:
    """Replace one to three numbers, texts or words by others."""
    text = data.decode("utf-8", "replace")
    for _ in range(pick.choice((1, 1, 2, 3))):
        found = [match.span() for match in _TOKEN.finditer(text)]
        if found:
            start, end = pick.choice(found[: pick.choice((10, 40, len(found)))])
            text = text[:start] + pick.choice(NASTY) + text[end:]
    return text.encode("utf-8", "replace")


def _lines(data: bytes, pick: random.Random) -> bytes:
    """Drop, repeat, swap or move a line."""
    rows = data.split(b"\n")
    a, b = pick.randrange(len(rows)), pick.randrange(len(rows))
    change = pick.choice(("drop", "repeat", "swap", "cut", "empty"))
    if change == "drop":
        del rows[a]
    elif change == "repeat":
        rows[a:a] = [rows[b]] * pick.choice((1, 5))
    elif change == "swap":
        rows[a], rows[b] = rows[b], rows[a]
    elif change == "cut":
        rows[a] = rows[a][: pick.randrange(len(rows[a]) + 1)]
    else:
        rows[a:a] = [b"", b" ", b","]
    return b"\n".join(rows)


def _bytes(data: bytes, pick: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(pick.choice((1, 3, 20))):
        if changed:
            changed[pick.randrange(len(changed))] = pick.randrange(256)
    return bytes(changed)


def _cut(data: bytes, pick: random.Random) -> bytes:
    return data[: pick.randrange(len(data))]


def _encoded(data: bytes, pick: random.Random) -> bytes:
    text = data.decode("utf-8", "replace")
    how = pick.choice(("utf-16", "utf-16-be", "utf-32", "bom", "crlf", "cr", "gzip", "html"))
    if how == "gzip":
        import gzip

        return gzip.compress(data)
    if how == "html":
        return b"<!DOCTYPE html><html>" + data
    if how == "bom":
        return codecs.BOM_UTF8 + data
    if how in ("crlf", "cr"):
        return text.replace("\n", "\r\n" if how == "crlf" else "\r").encode("utf-8", "replace")
    return text.encode(how, "replace")


def _repeated(data: bytes, pick: random.Random) -> bytes:
    start = pick.randrange(len(data))
    end = min(len(data), start + pick.choice((1, 40, 4000)))
    return data[:end] + data[start:end] * pick.choice((1, 3, 200)) + data[end:]


DAMAGE: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(_tokens, _tokens, _tokens, _lines, _lines, _bytes, _cut, _encoded, _repeated),
)


def data_file(seed: int, reader: str, number: int) -> bytes:
    """Return the n-th damaged file for a reader."""
    pick = random.Random(f"{seed} {reader} {number}")
    data = READERS[reader][1]()
    for _ in range(pick.choice((1, 1, 2))):
        data = pick.choice(DAMAGE)(data or b" ", pick)
    return data


def fuzz(count: int, seed: int, folder: Path) -> dict[str, Any]:
    """Read so many damaged files; those of which something goes wrong stay in ``folder``.

    Returns:
        The campaign's row: ``inputs``; ``answered`` and ``refused``, which add up to them if all is
        well; ``tracebacks``, ``hangs`` and ``crashes``; ``unclear``: refusals longer than
        ``LONGEST_MESSAGE``; ``peak_mb``: the largest memory.
    """
    keys = ("inputs", "answered", "refused", "tracebacks", "hangs", "crashes", "unclear")
    row, peak = dict.fromkeys(keys, 0), 0.0
    for index, reader in enumerate(READERS):
        share = count // len(READERS) + (index < count % len(READERS))
        here = folder / reader.replace(" ", "_")
        here.mkdir(parents=True)
        for number in range(share):
            path = here / f"{number:05d}{READERS[reader][0]}"
            path.write_bytes(data_file(seed, reader, number))
        words = ["-m", "tests.campaign.data_files", reader, str(here)]
        ended = watch(words, 60 + SECONDS_PER_FILE * share)
        peak = max(peak, ended.peak_mb)
        outcomes = [json.loads(one) for one in ended.out.splitlines() if one.startswith("{")]
        row["inputs"] += share
        for outcome in outcomes:
            row[outcome["outcome"]] += 1
        row["hangs"] += ended.hung
        row["crashes"] += ended.status != 0 and not ended.hung
        wrong = [one for one in outcomes if one["outcome"] not in ("answered", "refused")]
        if wrong or ended.status:
            (folder / f"{here.name}.wrong").write_text(
                "\n\n".join(f"{one['file']}\n{one['said']}" for one in wrong) + ended.error
            )
        else:
            shutil.rmtree(here)
    return {"campaign": "data files", "seed": seed, **row, "peak_mb": round(peak)}


def read_all(reader: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Read every file of a folder and yield what came of it."""
    read = READERS[reader][2]
    for path in sorted(folder.glob(f"[0-9]*{READERS[reader][0]}")):
        start, said = time.perf_counter(), ""
        try:
            with np.errstate(all="ignore"):
                read(path)
            outcome = "answered"
        except UserError as error:
            said = str(error)
            outcome = "refused" if len(said) <= LONGEST_MESSAGE else "unclear"
        except Exception:
            outcome, said = "tracebacks", traceback.format_exc()
        seconds = round(time.perf_counter() - start, 2)
        yield {"file": path.name, "outcome": outcome, "seconds": seconds, "said": said}


if __name__ == "__main__":
    for found in read_all(sys.argv[1], Path(sys.argv[2])):
        print(json.dumps(found), flush=True)
