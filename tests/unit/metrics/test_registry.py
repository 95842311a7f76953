"""Counting: declared names and labels only, series bounded, several processes' numbers blended without a fall."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics.blend import Numbers, Tally, numbers_of, pack, unpack_into
from gateway.metrics.declared import METRICS, SERIES_BOUND, SERIES_LIMIT, Blend, Kind, Metric
from gateway.metrics.exposition import render
from gateway.metrics.series import MetricMisused, Registry

LIMITED = {
    "parasol_metrics_folded_total": METRICS["parasol_metrics_folded_total"],
    "visits_total": Metric("visits_total", Kind.COUNTER, ("page",), "Visits", series_limit=2),
}
BLENDED = {
    "low": Metric("low", Kind.GAUGE, (), "", blend=Blend.LOWEST),
    "high": Metric("high", Kind.GAUGE, (), "", blend=Blend.HIGHEST),
    "last": Metric("last", Kind.GAUGE, (), "", blend=Blend.LATEST),
}


def samples(registry: Registry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    page = render(registry).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def sent(registry: Registry) -> Numbers:
    numbers: Numbers = {}
    for frame in pack(registry):
        unpack_into(numbers, frame)
    return numbers


def test_labels_count_the_same_in_any_order() -> None:
    registry = Registry()
    registry.count("parasol_redemptions_total", state="held", partner="parkco")
    registry.count("parasol_redemptions_total", partner="parkco", state="held")
    assert registry.counters["parasol_redemptions_total"] == {("held", "parkco"): 2}


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("parasol_unheard_of_total", {}),
        ("parasol_refusals_total", {}),
        ("parasol_refusals_total", {"reason": "scope", "partner": "parkco"}),
        ("parasol_refusals_total", {"cause": "scope"}),
        ("parasol_config_generation", {}),
        ("parasol_overhead_seconds", {}),
    ],
)
def test_counting_what_the_table_does_not_say_is_refused(name: str, labels: dict[str, str]) -> None:
    registry = Registry()
    with pytest.raises(MetricMisused):
        registry.count(name, **labels)


def test_observing_or_setting_a_counter_is_refused() -> None:
    registry = Registry()
    with pytest.raises(MetricMisused):
        registry.observe("parasol_refusals_total", 1.0, reason="scope")
    with pytest.raises(MetricMisused):
        registry.gauge("parasol_refusals_total", 1.0, reason="scope")
    with pytest.raises(MetricMisused):
        registry.probe("parasol_refusals_total", lambda: 1.0)


def test_series_above_the_limit_go_to_other_and_are_counted() -> None:
    registry = Registry(LIMITED)
    for page in ("a", "b", "c", "d", "a"):
        registry.count("visits_total", page=page)
    assert registry.counters["visits_total"] == {("a",): 2, ("b",): 1, ("other",): 2}
    assert registry.counters["parasol_metrics_folded_total"] == {("visits_total",): 2}


def test_a_histogram_is_shown_with_cumulative_buckets_count_and_sum() -> None:
    registry = Registry()
    for seconds in (0.0002, 0.0002, 0.00025, 7.0):
        registry.observe("parasol_overhead_seconds", seconds)
    shown = samples(registry)
    assert shown["parasol_overhead_seconds_bucket", (("le", "0.0001"),)] == 0
    assert shown["parasol_overhead_seconds_bucket", (("le", "0.00025"),)] == 3  # a bound belongs to its bucket
    assert shown["parasol_overhead_seconds_bucket", (("le", "+Inf"),)] == 4
    assert shown["parasol_overhead_seconds_count", ()] == 4
    assert shown["parasol_overhead_seconds_sum", ()] == pytest.approx(7.00065)


def test_a_label_value_with_quotes_and_line_ends_stays_one_sample() -> None:
    registry = Registry()
    registry.count("parasol_refusals_total", reason='a "b"\n\\c')
    assert samples(registry)["parasol_refusals_total", (("reason", 'a "b"\n\\c'),)] == 1


def test_partners_are_kept_apart_however_many_there_are_up_to_a_bound() -> None:
    registry = Registry()
    registry.gauge("parasol_partners", 5_000)
    for number in range(5_000):
        registry.count("parasol_discounts_lapsed_total", partner=f"p{number}")
    total = Tally(METRICS).page([sent(registry)])
    for page in (registry, total):
        assert len(page.counters["parasol_discounts_lapsed_total"]) == 5_000
        assert not page.counters["parasol_metrics_folded_total"]
    assert METRICS["parasol_discounts_lapsed_total"].limit(10**9) == SERIES_BOUND
    assert METRICS["parasol_refusals_total"].limit(10**9) == SERIES_LIMIT


def test_a_probe_is_read_when_the_numbers_are_sent() -> None:
    registry = Registry()
    registry.probe("parasol_config_age_seconds", lambda: 1.5)
    registry.read_probes()
    assert samples(registry)["parasol_config_age_seconds", ()] == 1.5


def test_what_is_sent_is_what_was_counted() -> None:
    registry = Registry()
    for number in range(2_500):
        registry.count("parasol_refusals_total", reason=f"r{number}")
    registry.observe("parasol_overhead_seconds", 0.001)
    registry.gauge("parasol_config_generation", 7)
    assert {name: cells for name, cells in numbers_of(registry).items() if cells} == sent(registry)


def test_counters_and_histograms_of_several_processes_add_up() -> None:
    left, right = Registry(), Registry()
    for registry, times in ((left, 2), (right, 3)):
        for _ in range(times):
            registry.count("parasol_claims_total", outcome="owned")
            registry.observe("parasol_overhead_seconds", 0.001)
    total = Tally(METRICS).page([sent(left), sent(right)])
    assert total.counters["parasol_claims_total"] == {("owned",): 5}
    assert sum(total.histograms["parasol_overhead_seconds"][()][:-1]) == 5


def test_gauges_of_several_processes_blend_as_declared() -> None:
    early, late = Registry(BLENDED), Registry(BLENDED)
    for name in BLENDED:
        early.gauges[name][()] = [5.0, 1.0]
        late.gauges[name][()] = [3.0, 2.0]
    total = Tally(BLENDED).page([numbers_of(late), numbers_of(early)])
    assert [total.gauges[name][()][0] for name in ("low", "high", "last")] == [3.0, 5.0, 3.0]


def test_a_departed_process_leaves_its_counts_and_takes_its_own_state_along() -> None:
    gone, tally = Registry(BLENDED | LIMITED), Tally(BLENDED | LIMITED)
    gone.count("visits_total", 4, page="a")
    for name in BLENDED:
        gone.gauge(name, 9.0)
    tally.depart(numbers_of(gone))
    total = tally.page([])
    assert total.counters["visits_total"] == {("a",): 4}
    assert (total.gauges["low"], total.gauges["high"], total.gauges["last"][()][0]) == ({}, {}, 9.0)


def test_a_series_that_was_shown_stays_shown_when_processes_change_places() -> None:
    tally = Tally(LIMITED)
    first: Numbers = {"visits_total": {("a",): 1, ("b",): 1}}
    second: Numbers = {"visits_total": {("c",): 1, ("b",): 1}}
    assert tally.page([first, second]).counters["visits_total"] == {("a",): 1, ("b",): 2, ("other",): 1}
    assert tally.page([second, first]).counters["visits_total"] == {("a",): 1, ("b",): 2, ("other",): 1}


def test_a_page_does_not_change_the_numbers_it_was_made_from() -> None:
    registry, tally = Registry(), Tally(METRICS)
    registry.observe("parasol_overhead_seconds", 0.001)
    numbers = sent(registry)
    first, second = tally.page([numbers, numbers]), tally.page([numbers, numbers])
    assert first.histograms == second.histograms


def test_a_metric_of_a_newer_process_waits_for_a_newer_hub() -> None:
    assert Tally(LIMITED).page([{"unheard_of": {(): 1}}]).counters["visits_total"] == {}
