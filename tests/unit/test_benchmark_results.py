"""Results of the benchmarks: ratios by pairs, medians, targets, and values from /proc."""

from benchmarks import medians, processes, tables, targets
from benchmarks.measurement import Measurement
from benchmarks.memory import steady
from benchmarks.rounds import order


def measured(side, number, per_second, connections=8, p50_ms=2.0, **cpu_us):
    return Measurement(
        round=number,
        side=side,
        connections=connections,
        per_second=per_second,
        p50_ms=p50_ms,
        p99_ms=9.0,
        cpu_us=cpu_us or {"one": 1.0, "wrk": 1.0},
        resident_mib={"one": 50.0},
        others_share=0.0,
    )


def test_the_order_of_sides_alternates():
    assert ["abc", "cba", "abc"] == [order("abc", number) for number in range(3)]


def test_a_ratio_is_the_median_of_the_ratios_of_single_rounds():
    rounds = [("bare", 100, 200), ("bare", 10, 30), ("bare", 50, 50)]
    every = [
        one
        for number, (_, bare, warm) in enumerate(rounds)
        for one in (measured("bare", number, bare), measured("warm", number, warm))
    ]

    bare, warm = medians.rows(every)

    assert medians.Ratio(2.0, 1.0, 3.0) == warm.to_bare
    assert (50, 50) == (bare.per_second, warm.per_second)
    assert (None, None, None) == (bare.to_bare, bare.to_warm, warm.to_warm)


def test_only_rounds_with_the_same_number_of_connections_are_paired():
    every = [measured("bare", 0, 100, connections=1), measured("warm", 0, 300, connections=8)]

    assert [None, None] == [row.to_bare for row in medians.rows(every)]


def test_a_round_without_the_other_side_has_no_ratio():
    ours = [measured("warm", 0, 100), measured("warm", 1, 400)]
    others = [measured("bare", 1, 200)]

    assert medians.Ratio(2, 2, 2) == medians.by_pairs(ours, others, lambda one: one.per_second)


# targets


def test_a_target_is_met_up_to_its_limit():
    upper, lower = targets.at_most("memory", 90, " MiB"), targets.at_least("rate", 4.5)

    assert targets.TargetOutcome("memory", "at most 90 MiB", "90 MiB", is_met=True) == upper.outcome(90)
    assert targets.TargetOutcome("rate", "at least 4.5 times", "4.4 times", is_met=False) == lower.outcome(
        4.4
    )
    assert targets.TargetOutcome("rate", "at least 4.5 times", "not measured", is_met=None) == lower.outcome(
        None
    )


def test_targets_that_a_shorter_run_did_not_measure_are_neither_met_nor_missed():
    every = [measured("bare", 0, 100, connections=128), measured("warm", 0, 600, connections=128)]

    met = {one.name: one.is_met for one in targets.outcomes(medians.rows(every))}

    assert met["128 connections: quotes/s compared with bare"] is True
    assert met["512 connections: quotes/s compared with bare"] is None
    assert met["pay compared with warm at 128, in operations/s"] is None


def test_python_per_quote_leaves_out_the_directory_postgres_and_the_generator():
    cpu_us = {"dfsp-api": 30.0, "spsp-server": 20.0, "central-directory": 9.0, "postgres": 8.0, "wrk": 7.0}
    row = medians.rows([measured("warm", 0, 1, **cpu_us)])[0]

    assert 50.0 == targets.python_cpu_us(row)


def test_memory_is_steady_if_the_last_minute_is_like_minute_two():
    grown = steady([{"one": 10.0}, {"one": 50.0}, {"one": 52.5}, {"one": 53.0}])
    steadily = steady([{"one": 10.0}, {"one": 50.0}, {"one": 60.0}, {"one": 52.5}])

    assert [False] == [one.is_met for one in grown]
    assert [True] == [one.is_met for one in steadily]


def test_a_table_is_aligned():
    assert [
        "| what |    1 |",
        "| ---- | ---: |",
        "| a    | 10.0 |",
    ] == tables.table(("what", "1"), [("a", "10.0")]).splitlines()


# processes


def test_a_process_name_may_contain_spaces_and_parentheses():
    ticks = processes.TICKS
    text = f"7 (a) b (c)) S 3 {' 0' * 9} {2 * ticks} {1 * ticks} {4 * ticks} {1 * ticks} 20 0 1 0 0\n"

    assert processes.ProcessStat(3, 3.0, 5.0) == processes.parse_stat(text)


def test_resident_memory_is_parsed_from_kib():
    assert 2_048 == processes.parse_resident("Name:\tx\nVmHWM:\t      9 kB\nVmRSS:\t      2 kB\n")


def test_a_machine_is_busy_unless_it_idles_or_waits_for_disks():
    ticks = processes.TICKS
    text = f"cpu  {ticks} {ticks} {ticks} {90 * ticks} {80 * ticks} {ticks} {ticks} 0 0 0\ncpu0 1\n"

    assert 5.0 == processes.parse_busy(text)


def test_other_processes_used_what_the_measured_ones_did_not():
    before = processes.CpuSnapshot({"one": 1.0, "wrk": 1.0}, 10.0)
    after = processes.CpuSnapshot({"one": 2.0, "wrk": 1.5}, 13.0)

    assert {"one": 1.0, "wrk": 0.5} == after.since(before)
    assert 1.5 == after.others_since(before)
