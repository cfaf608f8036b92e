"""Pinned downloads: a folder that the user names, the cache, or the network, always with a checksum."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bayescale.errors import RunsError

if TYPE_CHECKING:
    from bayescale.datasets.records import Dataset

#: The environment variable that names a folder with downloaded tables, for work without a network.
FOLDER = "BAYESCALE_DATA"
#: Seconds to wait for a connection, and for each piece of an answer.
TIMEOUT = (5, 15)


def pinned_file(dataset: Dataset) -> Path:
    """The path of a downloaded table, checked against its SHA-256.

    It is looked for in the folder named by the environment variable BAYESCALE_DATA, then in the user's cache, then
    downloaded. Raises `RunsError` (BS-R055) when it cannot be had, or has another checksum.
    """
    if folder := os.environ.get(FOLDER):
        path = Path(folder) / dataset.file
        if path.is_file():
            return _checked(dataset, path)
    return _downloaded(dataset)


def _checked(dataset: Dataset, path: Path) -> Path:
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise _failure(dataset, f"{path} cannot be read ({error.strerror or error})") from None
    if found != dataset.sha256:
        raise _failure(dataset, f"{path} is another file: its SHA-256 is {found[:12]}…, not {dataset.sha256}")
    return path


def _downloaded(dataset: Dataset) -> Path:
    import logging

    import pooch
    import requests

    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)  # pooch announces downloads on stderr; a library stays silent
    try:
        path = pooch.retrieve(
            str(dataset.url),
            known_hash=f"sha256:{dataset.sha256}",
            fname=dataset.file,
            path=pooch.os_cache("bayescale") / dataset.name,
            downloader=cast(Any, pooch.HTTPDownloader(timeout=TIMEOUT)),
        )
    except requests.exceptions.RequestException as error:
        raise _failure(dataset, f"its address cannot be reached ({type(error).__name__})") from None
    except ValueError:
        raise _failure(dataset, "its address now serves another file: the SHA-256 does not match") from None
    except OSError as error:
        raise _failure(dataset, f"the cache cannot be written ({error.strerror or error})") from None
    finally:
        logger.setLevel(level)
    return Path(path)


def _failure(dataset: Dataset, what: str) -> RunsError:
    return RunsError(
        f"data set {dataset.name!r} is not available: {what}",
        code="BS-R055",
        file=dataset.file,
        remedy=f"Download {dataset.url} to a folder and name the folder in the environment variable {FOLDER}.",
    )
