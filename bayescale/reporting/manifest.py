"""The manifest of a kit: what every file must hash to, and whether it still does."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from bayescale.errors import FitError

MANIFEST = "manifest.json"
MANIFEST_SCHEMA = "bayescale.manifest/1"


@dataclass(frozen=True)
class Verification:
    """How a folder compares with its manifest: files that differ, that are missing, and that it does not name."""

    folder: str
    checked: int
    changed: tuple[str, ...]
    missing: tuple[str, ...]
    unknown: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether every file of the manifest is there and unchanged."""
        return not self.changed and not self.missing

    def to_json(self) -> dict[str, Any]:
        """The document that the command line prints."""
        listed = {k: list(v) for k, v in self.__dict__.items() if isinstance(v, tuple)}
        return {"schema": "bayescale.verification/1", "folder": self.folder, "whole": self.whole,
                "checked": self.checked, **listed}  # fmt: skip


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path, about: Mapping[str, Any]) -> None:
    """Write the manifest of every file below a folder, and of itself."""
    files = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}
    entries = {name: {"sha256": sha256_of(p), "bytes": p.stat().st_size} for name, p in files.items()}
    body = {"schema": MANIFEST_SCHEMA, **about, "files": entries}
    document = {**body, "sha256": _digest(body)}
    (folder / MANIFEST).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _digest(body: Mapping[str, Any]) -> str:
    """The hash of the manifest's own content, whatever its layout."""
    return hashlib.sha256(json.dumps(body, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def verify(folder: str | os.PathLike[str]) -> Verification:
    """Compare every file of a kit with the SHA-256 that its manifest holds.

    Raises `FitError` (BS-F004) where there is no manifest, or one that cannot be read.

    Example:
        >>> bs.verify("paper").whole  # doctest: +SKIP
        True
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not path.is_file():
        raise FitError(
            "there is no manifest here", code="BS-F004", file=str(path), remedy="Give a folder that `report` made."
        )
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        entries = {str(name): str(entry["sha256"]) for name, entry in document["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FitError(f"cannot be read as a manifest: {error}", code="BS-F004", file=str(path)) from error
    changed, missing = [], []
    if document.get("sha256") != _digest({k: v for k, v in document.items() if k != "sha256"}):
        changed.append(MANIFEST)
    for name, wanted in entries.items():
        inside = PurePosixPath(name)
        if inside.is_absolute() or ".." in inside.parts:
            changed.append(MANIFEST)
            continue
        file = folder / inside
        if not file.is_file():
            missing.append(name)
        elif sha256_of(file) != wanted:
            changed.append(name)
    known = {*entries, MANIFEST}
    unknown = [
        n for p in sorted(folder.rglob("*")) if p.is_file() and (n := p.relative_to(folder).as_posix()) not in known
    ]
    return Verification(str(folder), len(entries), tuple(dict.fromkeys(changed)), tuple(missing), tuple(unknown))
