"""What a fit holds: draws as a DataTree, quantities with their Monte Carlo quality, saving and loading."""

from bayescale.posterior import convergence
from bayescale.posterior.continuing import carried
from bayescale.posterior.fit import (
    SCHEMA,
    Fit,
    Quantity,
    Verdict,
    finite,
    flattened,
    load_fit,
    summarise,
)
from bayescale.posterior.levels import at_level, averaged, level_column, levels_of, new_level, one_level
from bayescale.posterior.many import (
    CERTIFIED,
    FAILED,
    POSITION,
    UNCERTIFIED,
    Answers,
    Batch,
    for_each_table,
    with_verdicts,
)
from bayescale.posterior.members import MEMBER, is_stack, members_of, require_examined, require_one_model
from bayescale.posterior.rebuilding import flat_draws, model_of, noise_scales
from bayescale.posterior.replicating import replicate
from bayescale.posterior.tree import (
    axis_labels,
    evaluate_draws,
    headline_of,
    level_log_likelihood,
    make_tree,
    prior_draws,
    reported_names,
    variable_dims,
)

__all__ = [
    "CERTIFIED",
    "FAILED",
    "MEMBER",
    "POSITION",
    "SCHEMA",
    "UNCERTIFIED",
    "Answers",
    "Batch",
    "Fit",
    "Quantity",
    "Verdict",
    "at_level",
    "averaged",
    "axis_labels",
    "carried",
    "convergence",
    "evaluate_draws",
    "finite",
    "flat_draws",
    "flattened",
    "for_each_table",
    "headline_of",
    "is_stack",
    "level_column",
    "level_log_likelihood",
    "levels_of",
    "load_fit",
    "make_tree",
    "members_of",
    "model_of",
    "new_level",
    "noise_scales",
    "one_level",
    "prior_draws",
    "replicate",
    "reported_names",
    "require_examined",
    "require_one_model",
    "summarise",
    "variable_dims",
    "with_verdicts",
]
