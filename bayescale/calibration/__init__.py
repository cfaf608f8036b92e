"""Does the computation recover what it should? Simulated tables, refitted, and the ranks of their truths."""

from bayescale.calibration.calibrating import Calibration, calibrate
from bayescale.calibration.simulating import Simulated, simulate

__all__ = ["Calibration", "Simulated", "calibrate", "simulate"]
