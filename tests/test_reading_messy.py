"""Six hundred messy files: runs or a typed refusal, no silent guess, no blank number, no text that stays alive."""

from collections import Counter

import pytest
from messy_tables import examine, messy

from bayescale.errors import CODES

TABLES, BLOCK = 600, 60
SEEN: Counter = Counter()
DEFECTS: Counter = Counter()


@pytest.mark.parametrize("first", range(0, TABLES, BLOCK))
def test_messy_files_are_read_or_refused_and_nothing_is_guessed(tmp_path, first):
    for seed in range(first, first + BLOCK):
        made = messy(seed)
        try:
            SEEN[examine(made, tmp_path / f"runs{made.suffix}")] += 1
        except Exception as fault:
            raise AssertionError(f"seed {seed}, defects {made.defects}, options {made.options}") from fault
        DEFECTS.update(set(made.defects))


def test_the_files_are_messy_in_many_ways():
    if sum(SEEN.values()) < TABLES:
        pytest.skip("the files were examined in other processes")
    assert SEEN["read"] > TABLES / 3 and len(SEEN) >= 12 and set(SEEN) <= {*CODES, "read"}
    assert len(DEFECTS) >= 20 and min(DEFECTS.values()) >= 5
