"""A report of all photos as one HTML file, which opens anywhere and needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from demo.render import cards
from demo.render.overlay import overlay_html
from demo.session import Analysis
from faces.types import ImageResult

STYLE = Path(__file__).with_name("faces.css")

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Faces and their emotions</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root {{ color-scheme: light dark; --st-primary-color: #0072B2; }}
body {{ font-family: sans-serif; line-height: 1.5; margin: 2rem auto; max-width: 72rem; }}
{style}
</style></head><body>
<h1>Faces and their emotions</h1>
{summary}
<p>{settings}</p>
<p>It names what a face shows, not what a person feels, and it errs often: never use it for
decisions about people.</p>
{photos}
</body></html>
"""


def report_html(
    shown: Iterable[tuple[Analysis, bytes, Sequence[bytes]]],
    threshold: cards.Threshold,
    settings: str,
) -> bytes:
    """Return a report.

    Args:
        shown: of each photo the analysis, the preview and the crops of its faces, both as JPEG.
        threshold: from which probability on an emotion is a label.
        settings: a sentence that names them.
    """
    results: list[ImageResult] = []
    parts = []
    for analysis, preview, crops in shown:
        result = analysis.result
        results.append(result)
        width = cards.preview_width(result)
        parts.append(
            f"<section>{cards.title_html(result.source)}"
            f'<div class="stage" style="max-width:{width}px">'
            f"{cards.image_html(preview, cards.describe(result.source, result))}"
            f"{overlay_html(analysis, threshold)}</div>"
            f"{cards.cards_html(result, crops, threshold)}</section>"
        )
    text = _PAGE.format(
        style=STYLE.read_text("utf-8"),
        summary=cards.summary_html(cards.summary(results, threshold)),
        settings=html.escape(settings),
        photos="\n".join(parts),
    )
    return text.encode("utf-8", "backslashreplace")
