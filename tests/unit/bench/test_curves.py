"""`make bench-growth` runs every curve that there is; nobody noticed one that could not be imported."""

import importlib

import pytest

from bench.curves import CURVES, CurveUnknown, commands


@pytest.mark.parametrize("name", CURVES)
def test_every_curve_is_a_module_that_runs_by_itself(name: str) -> None:
    assert callable(importlib.import_module(f"bench.{name}").main)


def test_all_curves_run_where_none_is_named() -> None:
    assert commands([]) == [[f"bench.{name}"] for name in CURVES]


def test_a_curve_may_be_named_with_its_sizes() -> None:
    assert commands(["rows", "growth=1000000,10000000"]) == [["bench.rows"], ["bench.growth", "1000000", "10000000"]]


def test_a_curve_that_is_not_there_is_refused_before_any_runs() -> None:
    with pytest.raises(CurveUnknown, match="partners"):
        commands(["rows", "prices"])
