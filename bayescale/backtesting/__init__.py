"""Extrapolation, tried on the runs there are: fit below a cut, forecast what lies above it, for several cuts."""

from bayescale.backtesting.recording import Backtest, Origin
from bayescale.backtesting.rolling import backtest

__all__ = ["Backtest", "Origin", "backtest"]
