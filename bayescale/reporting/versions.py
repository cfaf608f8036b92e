"""What a bug report needs: versions, platform, devices, and where files are kept."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata

#: The packages that answers depend on.
PACKAGES = (
    "bayescale",
    "numpy",
    "scipy",
    "jax",
    "jaxlib",
    "numpyro",
    "xarray",
    "pandas",
    "arviz",
    "matplotlib",
    "h5netcdf",
    "pooch",
    "typer",
)


class Versions(dict[str, str]):
    """Versions by name, printed one a line."""

    def __repr__(self) -> str:
        width = max(map(len, self))
        return "\n".join(f"{name:<{width}}  {value}" for name, value in self.items())


def show_versions() -> Versions:
    """The versions of everything an answer depends on, with Python, the platform and the number of cores.

    Nothing is printed: the record shows itself one line an entry. No device is started.

    Example:
        >>> "jax" in bs.show_versions()  # doctest: +SKIP
        True
    """
    found = {"python": sys.version.split()[0], "platform": platform.platform(), "cores": str(os.cpu_count())}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return Versions(found)
