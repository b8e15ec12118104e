"""The targets of the coverage-guided fuzzing read their seeds, and random changes of them."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.fuzz_bytes import TARGETS, Faults, changed


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_changes_of_them_are_read_or_refused(name):
    rng, faults = random.Random(0), Faults(name)
    for content in TARGETS[name].seeds:
        faults(content)
        for _ in range(5):
            faults(changed(content, rng))
    assert faults.seen == set()


def test_every_kind_of_fault_is_found_once(monkeypatch, capsys):
    def failing(content, folder):
        assert content != b"bad", "what is wrong (place.py:7)"

    monkeypatch.setitem(TARGETS, "bed", TARGETS["bed"]._replace(read=failing))
    faults = Faults("bed")
    for content in (b"good", b"bad", b"bad"):
        faults(content)
    assert capsys.readouterr().out.count("fault of bed: AssertionError: what is wrong") == 1
