"""Write the two pictures of the page in docs/: ``python tests/browser/screenshots.py``."""

from __future__ import annotations

import os
from pathlib import Path

from page_driver import DESKTOP, ROOT, Page, Server
from PIL import Image

MOST_BYTES = 300_000


def shrink(path: Path) -> None:
    """Write a PNG with as few colours as its size demands, from 256 on."""
    with Image.open(path) as picture:
        image = picture.convert("RGB")
    part = path.with_suffix(".part")
    for colours in (256, 192, 128, 96, 64):
        image.quantize(colours, dither=Image.Dither.NONE).save(part, "PNG", optimize=True)
        if part.stat().st_size <= MOST_BYTES:
            break
    os.replace(part, path)


def main() -> None:
    """Take both pictures of the first view."""
    with Server() as server:
        for name in ("light", "dark"):
            path = ROOT / "docs" / f"demo_{name}.png"
            with Page(server.url, DESKTOP, dark=name == "dark") as page:
                page.picture(path, whole=False)
            shrink(path)
            print(f"wrote {path.relative_to(ROOT)}, {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
