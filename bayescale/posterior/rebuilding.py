"""The model behind a fit, from what its file holds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bayescale.errors import FitError
from bayescale.law import parse_prior
from bayescale.model import Model, build_model
from bayescale.model.observing import Observing, growths_of
from bayescale.noise import NOISES
from bayescale.posterior.fit import Fit
from bayescale.posterior.members import require_one_model


def model_of(fit: Fit) -> Model:
    """The model of a fit: its law bound to its own runs, with the noise, groups, options and references it had.

    Raises `NotFittedFor` (BS-F002) for a stack, which has several.
    """
    require_one_model(fit)
    options, runs = fit.info["options"], fit.runs
    return build_model(
        fit.law,
        runs,
        noise=fit.noise,
        group=fit.grouped,
        fix=options["fix"],
        tie=[(first, second) for first, second in options["tie"]],
        priors={name: parse_prior(text) for name, text in options.get("priors", {}).items()},
        references=fit.references,
        min_flops=options.get("min_flops"),
        held=np.isin(runs.rows, options.get("held_out", ())),
    )


def flat_draws(fit: Fit, model: Model) -> np.ndarray:
    """The draws of the model's flat vector, shape (samples, dimension).

    Raises `FitError` (BS-F004) for a file that does not hold them.
    """
    if "unconstrained_posterior" not in fit.tree.children:
        raise FitError("holds no unconstrained draws", code="BS-F004", remedy="Refit with this version.")
    z = np.asarray(fit.tree["unconstrained_posterior"]["z"])
    parts = [z, *(np.asarray(fit.tree["posterior"][i.site]) for i in model.structure.intercepts)]
    if sum(part.shape[-1] for part in parts) != model.structure.dimension:
        raise FitError(
            "was sampled from a model that this version builds otherwise", code="BS-F004", remedy="Fit again."
        )
    return np.concatenate(parts, axis=-1).reshape(-1, model.structure.dimension)


def noise_scales(fit: Fit, inputs: Mapping[str, np.ndarray], suffix: str = "") -> np.ndarray:
    """Draws of the noise's own scale on the link scale at inputs of shape (points,): (points or 1, samples).

    Errors of measurement are not in it: they belong to rows, not to runs that are to be predicted.
    """
    draws = fit.draws("posterior")
    sigma = draws[f"sigma{suffix}"][None]
    if not NOISES[fit.noise].grows:
        return sigma
    growth = growths_of(fit.law)
    reference = {i.name: fit.references[i.reference_name] for i in fit.law.inputs if i.reference_name in fit.references}
    needed = {name for g in growth for name, _ in g.weights}
    logs = {n: np.log(np.asarray(inputs[n], float) / reference[n])[:, None] for n in needed}
    return sigma * Observing(growth=growth).growth_factor(draws, logs, suffix, np)
