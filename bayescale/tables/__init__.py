"""Documents for machines and tables for people."""

from bayescale.tables.document import (
    FIT_SCHEMA,
    fit_document,
    headline_allocation,
    implied_prior,
    law_document,
    runs_table,
    write_folder,
)
from bayescale.tables.text import (
    adjusted_lines,
    aligned,
    allocation_lines,
    audit_lines,
    findings_lines,
    fit_lines,
    interval,
    law_lines,
    short,
    summary_lines,
)

__all__ = [
    "FIT_SCHEMA",
    "adjusted_lines",
    "aligned",
    "allocation_lines",
    "audit_lines",
    "findings_lines",
    "fit_document",
    "fit_lines",
    "headline_allocation",
    "implied_prior",
    "interval",
    "law_document",
    "law_lines",
    "runs_table",
    "short",
    "summary_lines",
    "write_folder",
]
