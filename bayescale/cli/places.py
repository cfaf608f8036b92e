"""Where results go: what is taken, or cannot be written to, is refused before the work and not after it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from bayescale.errors import BayescaleError, FitError, cannot_be_written


def require_folder(out: str | None, force: bool, flag: str = "--force", does: str = "replace it") -> None:
    """Refuse a folder that exists, unless forced, and one that cannot be made or written to.

    Raises `FitError` (BS-U002) for the first, (BS-U003) for the second.
    """
    if out is None:
        return
    place = Path(out)
    if place.exists() and not place.is_dir():
        raise FitError("is a file, and a folder is to be written", code="BS-U003", file=out, remedy="Name a folder.")
    if place.exists() and not force:
        raise FitError(f"the folder {out} exists", code="BS-U002", file=out, remedy=f"Add {flag} to {does}.")
    _require_writable(place, place if place.exists() else place.absolute().parent)


def require_picture(out: str | None, force: bool) -> None:
    """Refuse a picture's file that exists, unless forced, that is no picture, or that cannot be written.

    Raises `BayescaleError` (BS-U001) for another suffix, `FitError` (BS-U002, BS-U003) as `require_folder` does.
    """
    if out is None:
        return
    place = Path(out)
    if place.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise BayescaleError(
            f"--out takes a picture's name, got {out!r}", code="BS-U001", remedy="Name it .png or .pdf."
        )
    if place.is_dir():
        raise FitError("is a folder, and a picture is to be written", code="BS-U003", file=out, remedy="Name a file.")
    if place.exists() and not force:
        raise FitError(f"{out} exists", code="BS-U002", file=out, remedy="Add --force to replace it.")
    _require_writable(place, place.absolute().parent)


def _require_writable(place: Path, folder: Path) -> None:
    there = next(p for p in (folder, *folder.parents) if p.exists())
    try:
        with tempfile.TemporaryDirectory(dir=there, prefix=".bayescale-"):
            pass
    except OSError as error:
        raise cannot_be_written(error, str(place)) from None
