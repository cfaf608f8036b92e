"""What verbs answer: a record with a document, a table, and words that a notebook shows above it."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


class Record:
    """A verb's answer: `to_json` is its document, `frame` its table, by default one row of the document's values."""

    def to_json(self) -> dict[str, Any]:
        """The record as a document."""
        raise NotImplementedError

    def frame(self) -> pd.DataFrame:
        """One row: the numbers and words of the document."""
        import pandas as pd

        told = {k: v for k, v in self.to_json().items() if v is None or isinstance(v, str | int | float)}
        return pd.DataFrame([told]).drop(columns=["schema", "sentence"], errors="ignore")

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>{self.frame().to_html(index=False, float_format='%.4g')}"
