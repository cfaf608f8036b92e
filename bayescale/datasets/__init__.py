"""Tables of training runs by name: bundled, or downloaded with a pinned address and checksum."""

from bayescale.datasets.loading import fetch, find_dataset, load_runs
from bayescale.datasets.records import Dataset, Subset
from bayescale.datasets.registry import DATASETS

__all__ = ["DATASETS", "Dataset", "Subset", "fetch", "find_dataset", "load_runs"]
