"""Face crops sorted into one folder per emotion: ``<class>/*.png``, loose or zipped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import PurePosixPath

from eval.data.images import PictureStore
from faces.command import UserError
from faces.emotions import EMOTIONS, canonical_emotion
from faces.paths import PICTURE_SUFFIXES


@dataclass(frozen=True)
class CropFolder:
    """What a folder of labelled face crops holds.

    Attributes:
        pictures: (name in the store, index into ``EMOTIONS``), by name.
        skipped: files that are no pictures by their name, or lie in no class folder.
        ignored: class folders left out as asked, with their number of pictures.
    """

    pictures: tuple[tuple[str, int], ...]
    skipped: tuple[str, ...]
    ignored: dict[str, int]


def scan_crops(store: PictureStore, ignore: Collection[str] = ()) -> CropFolder:
    """Sort the pictures of a store by class.

    Class names are matched whatever their case and by their usual aliases; folders of one emotion
    are merged. A single folder around all of a zip's content is passed through.

    Args:
        store: the folder or zip.
        ignore: folders to leave out, by name or by an alias of the emotion, whatever the case.

    Raises:
        UserError: a folder names no emotion and is not to be ignored; a class folder holds
            folders; or there is no picture at all.
    """
    wrapper = _wrapper(store, ignore)
    pictures: list[tuple[str, int]] = []
    skipped: list[str] = []
    ignored: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    for name in store.names:
        folders = PurePosixPath(name).parts[len(wrapper) : -1]
        is_picture = PurePosixPath(name).suffix.lower() in PICTURE_SUFFIXES
        left_out = next((part for part in folders if _is_ignored(part, ignore)), None)
        if left_out is not None:
            ignored[left_out] += is_picture
        elif not folders:
            skipped.append(name)
        elif _emotion(folders[0]) is None:
            unknown[folders[0]] += is_picture
        elif len(folders) > 1 and is_picture:
            raise UserError(
                f"{store.label(name)}: a folder inside a class folder; pictures must lie directly "
                f"in <class>/ (or leave it out: --ignore-class {folders[1]})"
            )
        elif is_picture:
            pictures.append((name, EMOTIONS.index(_emotion(folders[0]) or "")))
        else:
            skipped.append(name)
    if unknown:
        raise UserError(_unknown_folders(store, unknown))
    if not pictures:
        raise UserError(
            f"{store.path}: holds no picture in a class folder; expected <class>/*.png with the "
            f"classes {', '.join(EMOTIONS)}"
        )
    return CropFolder(tuple(pictures), tuple(skipped), dict(ignored))


def _unknown_folders(store: PictureStore, unknown: Counter[str]) -> str:
    shown = ", ".join(
        f"{name!r} (pictures: {count})" for name, count in sorted(unknown.items())[:8]
    )
    more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
    return (
        f"{store.path}: no emotion is called {shown}{more}; the classes are {', '.join(EMOTIONS)} "
        "(or an alias); point --data at the folder that holds the class folders, or leave some "
        f"out with --ignore-class {' '.join(sorted(unknown)[:8])}"
    )


def _wrapper(store: PictureStore, ignore: Collection[str]) -> tuple[str, ...]:
    tops = {PurePosixPath(name).parts[0] for name in store.names}
    if not store.is_zip or len(tops) != 1 or store.names[0] in tops:
        return ()
    top = tops.pop()
    return () if _emotion(top) or _is_ignored(top, ignore) else (top,)


def _emotion(name: str) -> str | None:
    try:
        return canonical_emotion(name)
    except ValueError:
        return None


def _is_ignored(folder: str, ignore: Collection[str]) -> bool:
    emotion = _emotion(folder)
    return any(
        folder.strip().lower() == name.strip().lower()
        or (emotion is not None and emotion == _emotion(name))
        for name in ignore
    )
