"""One law fitted to many tables at once, every result certified by itself."""

from bayescale.batch.fitting import fit_many

__all__ = ["fit_many"]
