"""What a column's header says: which canonical column it is, in which unit, and which count of parameters."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from bayescale.law.units import LOSS_UNITS, loss_unit
from bayescale.reading.multiples import PF_DAY, multiple
from bayescale.runs import COLUMNS

#: Names that mean a canonical column without doubt, as people spell them: case, spaces, `-`, `_`, `.` and `/` are
#: ignored. The single letters are the papers' symbols and must be capitals.
SYNONYMS: dict[str, str] = {
    "params": "N, params, parameters, n_params, n_parameters, num_params, num_parameters, number_of_parameters, "
    "param_count, params_count, parameter_count, model_params, model_parameters, model_size, model_size_params",
    "tokens": "D, tokens, n_tokens, num_tokens, number_of_tokens, token_count, token_num, D_tokens, train_tokens, "
    "training_tokens, trained_tokens, tokens_seen, tokens_trained, tokens_consumed, tokens_processed, total_tokens, "
    "tokens_total, n_train_tokens, num_train_tokens, num_training_tokens, pretraining_tokens, pretrain_tokens, "
    "pretraining_data_size",
    "flops": "C, flops, flop, compute, n_flops, num_flops, train_flops, train_flop, training_flops, training_flop, "
    "total_flops, total_flop, flops_total, total_training_flops, compute_flops, compute_flop, training_compute, "
    "train_compute, total_compute, pretraining_flops, pretraining_compute",
    "unique_tokens": "unique_tokens, distinct_tokens, unique_train_tokens, unique_training_tokens, unique_data_tokens",
    "run": "run, run_id, run_name, run_key, run_number",
    "group": "group",
    "recipe": "recipe, family, model_family, training_recipe",
    "budget": "budget, flops_budget, flop_budget, compute_budget, isoflop_budget, isoflop, nominal_flops, target_flops",
    "loss_se": "loss_se, loss_stderr, loss_std_err, loss_standard_error, loss_sem, se_loss",
    "params_se": "params_se, params_stderr, params_standard_error",
    "tokens_se": "tokens_se, tokens_stderr, tokens_standard_error",
    "flops_se": "flops_se, flops_stderr, flops_standard_error",
    "loss_step": "loss_step, loss_resolution, loss_rounding",
    "undertuned": "undertuned, under_tuned, untuned, is_undertuned",
}

#: Names that mean a canonical column only where nothing better is in the table.
WEAK_SYNONYMS: dict[str, str] = {
    "params": "n, size_params",
    "tokens": "d, training_dataset_size, training_dataset_size_total, dataset_tokens, data_tokens",
    "flops": "c",
    "loss": "L",
    "run": "name, id, experiment, experiment_name, experiment_id, exp_name",
    "recipe": "dataset, train_dataset, training_dataset, corpus, train_corpus, training_corpus, pretraining_data",
}

#: Counts of parameters: the convention and how headers say it.
CONVENTIONS: dict[str, str] = {
    "non-embedding": r"non?_?emb(?:ed(?:ding)?s?)?|(?:without|wo|excl|excluding|ex)_?embed(?:ding)?s?",
    "total": r"(?:with|incl|including)_?embed(?:ding)?s?|total|all",
    "active": r"activated|active",
    "nominal": r"nominal",
    "reported": r"reported",
}

#: Exporters put such words before every column: `config.n_params`, `metrics/val_loss`.
_NAMESPACE = re.compile(
    r"^(?:params|metrics|config|summary|summary_metrics|hparams|tags|throughput)[./]", re.IGNORECASE
)
_PARENTHESIS = re.compile(r"^(?P<name>.*?)[\s_]*[(\[](?P<inside>[^()\[\]]*)[)\]]\s*$")
_WHICH = r"(?:val(?:id(?:ation)?)?|eval(?:uation)?|test|heldout|dev)"
_LOSS = re.compile(
    rf"(?:final|best)?{_WHICH}?(?:final)?(?:lm)?"
    r"(?P<core>loss|celoss|crossentropyloss|crossentropy|xent|nll)?(?P<unit>[a-z]*?)"
    rf"(?:final)?{_WHICH}?(?:final)?"
)
_LOSS_UNITS = {
    "ppl": "ppl",
    "perplexity": "ppl",
    "bpb": "bits/byte",
    "bpc": "bits/byte",
    **{u.name.replace("/", "per"): u.name for u in LOSS_UNITS.values()},
    **{u.name.replace("/", ""): u.name for u in LOSS_UNITS.values()},
    "bitsperchar": "bits/byte",
    "bitspercharacter": "bits/byte",
    "nats": "nats/token",
    "bits": "bits/token",
    "innats": "nats/token",
    "inbits": "bits/token",
}
_TOTAL_FLOP = re.compile(
    r"(?:(?:total|training|train|pretraining)+(?P<any>[a-z]+?flops?)|(?P<large>(?:e|exa|z|zetta|y|yotta)flops?))"
)
_PF_DAYS = re.compile(r"(?:compute|training|train)*(?:pf|petaflops?)s?days?")


@dataclass(frozen=True)
class Meaning:
    """What a header means: a canonical column, how sure that is (0 is the canonical name itself), and its unit.

    `factor` is the multiple that the header states (None: none), `unit` the unit of a loss ("ppl" for a perplexity),
    `convention` which count of parameters it is.
    """

    column: str
    rank: int
    factor: float | None = None
    unit: str | None = None
    convention: str | None = None


LITERAL, CANONICAL, SYNONYM, QUALIFIED, WEAK = range(5)


def normalise(name: str) -> str:
    """A name without case, spaces and punctuation, as headers are compared: "Model Size" → "modelsize"."""
    return re.sub(r"[\s\-_./:]+", "", name).lower()


def _table(spelled: dict[str, str]) -> dict[str, str]:
    pairs = [(name.strip(), column) for column, names in spelled.items() for name in names.split(",")]
    return {name if len(name) == 1 else normalise(name): column for name, column in pairs}


_STRONG, _WEAK = _table(SYNONYMS), _table(WEAK_SYNONYMS)


def recognise(header: str) -> Meaning | None:
    """What a header means, or None where it names no canonical column.

    Example:
        >>> recognise("Model Size (M)").column, recognise("val_bpb").unit, recognise("N_no_emb").convention
        ('params', 'bits/byte', 'non-embedding')
    """
    if header in COLUMNS:
        return Meaning(header, LITERAL)
    for name in dict.fromkeys((header, _NAMESPACE.sub("", header))):
        if found := _plain(name) or _in_parentheses(name) or _with_suffix(name):
            return found
    return None


def meaning_as(header: str, column: str) -> Meaning:
    """What a header says beyond its name, once a person has said which canonical column it is.

    Example:
        >>> meaning_as("C4 loss (bits/byte)", "loss").unit, meaning_as("size (M)", "params").factor
        ('bits/byte', 1000000.0)
    """
    if (found := recognise(header)) and found.column == column:
        return found
    plain = Meaning(column, CANONICAL)
    if bracketed := _PARENTHESIS.match(header):
        return with_unit(plain, bracketed["inside"]) or plain
    units = [_LOSS_UNITS[w] for w in _words(header.lower()) if w in ("ppl", "perplexity", "bpb", "bpc")]
    return replace(plain, unit=units[0]) if units and column == "loss" else plain


def _plain(name: str) -> Meaning | None:
    key = normalise(name)
    symbol = name.strip()
    if len(key) == 1:
        if symbol in _STRONG:
            return Meaning(_STRONG[symbol], SYNONYM)
        return Meaning(_WEAK[symbol], WEAK) if symbol in _WEAK else None
    if key in _STRONG:
        column = _STRONG[key]
        return Meaning(column, CANONICAL if key == normalise(column) else SYNONYM)
    if found := _loss(key) or _compute(key) or _counted(name):
        return found
    return Meaning(_WEAK[key], WEAK) if key in _WEAK else None


def _loss(key: str) -> Meaning | None:
    if key == "loss":
        return Meaning("loss", CANONICAL)
    found = _LOSS.fullmatch(key)
    if not found or (found["unit"] and found["unit"] not in _LOSS_UNITS):
        return None
    # Without the word "loss", "bits" may as well be the precision of the weights.
    if not found["core"] and found["unit"] in ("", "bits", "nats", "inbits", "innats"):
        return None
    return Meaning("loss", SYNONYM, unit=_LOSS_UNITS.get(found["unit"]))


def _compute(key: str) -> Meaning | None:
    if _PF_DAYS.fullmatch(key):
        return Meaning("flops", SYNONYM, factor=PF_DAY)
    # A bare "tflops" is more often a speed than a total, so only unmistakable names count.
    if found := _TOTAL_FLOP.fullmatch(key):
        factor = multiple(found["any"] or found["large"], "flops")
        return Meaning("flops", SYNONYM, factor=factor) if factor else None
    return None


def _counted(name: str) -> Meaning | None:
    """A count of parameters under a stated convention: `params_non_embedding`, `active_params`, `N_no_emb`."""
    words = re.sub(r"[\s\-./:]+", "_", name.strip())
    for convention, pattern in CONVENTIONS.items():
        for rest in (
            re.sub(rf"(?:^|_)(?:{pattern})(?=_|$)", "", words, count=1, flags=re.IGNORECASE),
            re.sub(pattern, "", words, count=1, flags=re.IGNORECASE),
        ):
            rest = rest.strip("_")
            key = rest if len(rest) == 1 else normalise(rest)
            if rest != words and _STRONG.get(key) == "params":
                return Meaning("params", QUALIFIED, convention=convention)
    return None


def _in_parentheses(name: str) -> Meaning | None:
    """A header with a unit or a convention in brackets: `tokens (B)`, `params (M, non-embedding)`."""
    found = _PARENTHESIS.match(name)
    base = _plain(found["name"]) if found else None
    if found is None or base is None:
        return None
    for part in re.split(r"[,;]", found["inside"]):
        understood = with_unit(base, part) or _with_convention(base, part)
        if understood is None:
            return None
        base = understood
    return base


def with_unit(meaning: Meaning, text: str) -> Meaning | None:
    """A meaning with a unit added, or None where the text is no unit of that column."""
    column = COLUMNS[meaning.column]
    if column.kind == "scale" or meaning.column == "flops_se":
        factor = multiple(text, meaning.column)
        return None if factor is None else replace(meaning, factor=factor)
    if meaning.column == "loss":
        unit = named_loss_unit(text)
        return replace(meaning, unit=unit) if unit else None
    return None


def named_loss_unit(text: str) -> str | None:
    """The unit of loss that a text names, "ppl" for a perplexity, None where it names none."""
    key = normalise(text)
    if key in _LOSS_UNITS:
        return _LOSS_UNITS[key]
    try:
        return loss_unit(text).name
    except ValueError:
        return None


def _with_convention(meaning: Meaning, text: str) -> Meaning | None:
    if meaning.column != "params":
        return None
    key = re.sub(r"[\s\-]+", "_", text.strip().lower())
    convention = next((c for c, pattern in CONVENTIONS.items() if re.fullmatch(pattern, key)), None)
    return replace(meaning, convention=convention, rank=max(meaning.rank, QUALIFIED)) if convention else None


def _with_suffix(name: str) -> Meaning | None:
    """A header that ends in a unit: `params_M`, `tokens_billions`, `N_in_millions`, `tokensB`."""
    for base, unit in _splits(name):
        meaning = _plain(base)
        if meaning is None or meaning.rank == WEAK or meaning.factor or meaning.column == "loss":
            continue
        # d_k is a width and n_b a number of batches: a lone symbol wants a word or a capital.
        if len(base) == 1 and len(unit) == 1 and not unit.isupper():
            continue
        if unit and (understood := with_unit(meaning, unit)):
            return understood
    return None


def _words(name: str) -> list[str]:
    return re.findall(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+(?:e\d+)?", name)


def _splits(name: str) -> Iterator[tuple[str, str]]:
    words = _words(name)
    for k in range(1, min(4, len(words))):
        base, unit = words[:-k], words[-k:]
        if unit[0].lower() in ("in", "x"):
            unit = unit[1:]
        yield "_".join(base), " ".join(unit)


def like_a_loss(header: str) -> bool:
    """Whether a header that names no canonical column still speaks of a loss: `loss_c4_val`, `train_ppl`."""
    words = {w.lower() for w in _words(header)}
    if words & {"lo", "hi", "lower", "upper", "std", "se", "sem", "stderr", "ci"} or re.search(r"(lo|hi)\d\d$", header):
        return False  # an end of its interval, or its error
    return bool(words & {"loss", "losses", "ppl", "perplexity", "bpb", "bpc", "xent", "nll", "entropy"})
