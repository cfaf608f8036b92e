"""Law + noise + runs → one NumPyro model: coordinates, groups, density, simulation."""

from bayescale.model.build import Model, build_model, make_references, observed_rows, unit_factor, with_responses
from bayescale.model.coordinates import Coordinates, formulas_of, make_coordinates
from bayescale.model.density import Intercepts, Structure, bucket, pad
from bayescale.model.grouping import Grouping, isoflop_levels, make_groupings, same_partition
from bayescale.model.logarithms import with_vector_logs
from bayescale.model.observing import bounded_rows
from bayescale.model.pooling import FEWEST_LEVELS, resolved_pool
from bayescale.model.programs import (
    available_cores,
    compiled,
    double_precision,
    forget_programs,
    one_blas_thread,
    user_cache_folder,
)

__all__ = [
    "FEWEST_LEVELS",
    "Coordinates",
    "Grouping",
    "Intercepts",
    "Model",
    "Structure",
    "available_cores",
    "bounded_rows",
    "bucket",
    "build_model",
    "compiled",
    "double_precision",
    "forget_programs",
    "formulas_of",
    "isoflop_levels",
    "make_coordinates",
    "make_groupings",
    "make_references",
    "observed_rows",
    "one_blas_thread",
    "pad",
    "resolved_pool",
    "same_partition",
    "unit_factor",
    "user_cache_folder",
    "with_responses",
    "with_vector_logs",
]
