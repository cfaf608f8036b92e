"""Samplers behind one interface: where to start, NumPyro's kernels, compiled programs."""

from bayescale.sampling.engine import FEWEST_DRAWS, SAMPLERS, Draws, Progress, Sampler, Settings, sampler_named
from bayescale.sampling.escalation import GROUPED, PLAIN, Escalation
from bayescale.sampling.nuts import Kernel
from bayescale.sampling.progress import part_of, progress_bar
from bayescale.sampling.start import Start, find_start

__all__ = [
    "FEWEST_DRAWS",
    "GROUPED",
    "PLAIN",
    "SAMPLERS",
    "Draws",
    "Escalation",
    "Kernel",
    "Progress",
    "Sampler",
    "Settings",
    "Start",
    "find_start",
    "part_of",
    "progress_bar",
    "sampler_named",
]
