"""What the whole suite shares: a cache of compiled programs, one fit a table, no network."""

import os
import signal
from pathlib import Path

import pytest

# Before JAX starts: compiled programs of the suite are kept together, away from the user's own.
os.environ.setdefault("BAYESCALE_CACHE", str(Path(__file__).resolve().parents[1] / ".pytest_cache" / "programs"))
os.environ.setdefault("MPLBACKEND", "Agg")

import bayescale as bs
from bayescale.model import forget_programs

#: Files that take a minute and more come first: a worker that is left alone with one of them at the end costs all.
LONGEST_FIRST = ("docs", "observing", "auditing", "groups", "reporting", "batch", "allocation", "golden_laws", "fit")


def pytest_collection_modifyitems(items):
    """Files in the order in which workers should take them."""
    places = {f"test_{name}": k for k, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture(scope="module", autouse=True)
def few_programs():
    """Each module's compiled programs are let go: the system limits how many pieces of memory a process may map."""
    yield
    import jax

    forget_programs()
    jax.clear_caches()


@pytest.fixture(scope="session")
def ladder():
    """The bundled ladder: 30 tuned runs."""
    return bs.load_runs("byte-ladder")


@pytest.fixture(scope="session")
def ladder_fit(ladder):
    """The main job on the bundled ladder: group effects on."""
    return bs.fit("chinchilla", ladder, seed=0)


@pytest.fixture(scope="session")
def thin_fit(ladder_fit):
    """The main job's fit with 1,000 of its draws, so that figures are quick."""
    from dataclasses import replace

    import xarray as xr

    from bayescale.plots.draws import thinned

    groups = {k: v.to_dataset() for k, v in ladder_fit.tree.children.items()}
    few = thinned(ladder_fit, 1000).tree
    groups |= {name: few[name].to_dataset() for name in ("posterior", "headline")}
    return replace(ladder_fit, tree=xr.DataTree.from_dict(groups))


@pytest.fixture
def closed():
    """Figures are closed after the test."""
    from matplotlib import pyplot

    yield
    pyplot.close("all")


@pytest.fixture(scope="session")
def plain_fit(ladder):
    """The ladder without group effects."""
    return bs.fit("chinchilla", ladder, seed=0, group="none")


@pytest.fixture(scope="session")
def epoch():
    """The 240 runs of the Chinchilla replication, where the raw file is at hand (BAYESCALE_DATA)."""
    try:
        return bs.load_runs("besiroglu2024")
    except bs.RunsError as error:
        pytest.skip(f"the replication's table is not at hand: {error}")


@pytest.fixture
def usual_handler():
    """Python's own answer to Ctrl-C, which a process started in the background does not have."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
