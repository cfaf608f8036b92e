"""Ctrl-C in a long batch: heard at once, acted on where nothing is lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Interrupts:
    """While it is entered, Ctrl-C is noted in `pressed` and raises nowhere but within `may_stop`.

    Who works looks at `pressed` where it can stop. A second Ctrl-C does what the first would have done before. Outside
    the main thread, which alone is told of signals, nothing changes.
    """

    def __init__(self) -> None:
        self.pressed = False
        self._open = False
        self._usual: Any = None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._usual = signal.getsignal(signal.SIGINT)
            if callable(self._usual):
                signal.signal(signal.SIGINT, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        if self._usual is not None and signal.getsignal(signal.SIGINT) == self._hear:
            signal.signal(signal.SIGINT, self._usual)

    def _hear(self, number: int, frame: Any) -> None:
        again, self.pressed = self.pressed, True
        try:
            self._usual(number, frame)
        except KeyboardInterrupt:
            if again or self._open:
                raise

    @contextmanager
    def may_stop(self) -> Iterator[None]:
        """Work that Ctrl-C may break off at any place."""
        self._open = True
        try:
            if self.pressed:
                raise KeyboardInterrupt
            yield
        finally:
            self._open = False
