"""`make bench-compare`: what is measured, in which order, and how ratios are printed."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import compare, options
from benchmarks.chains import Checkout
from benchmarks.errors import BenchmarkError
from benchmarks.measurement import Measurement

ONE = Measurement(
    round=0,
    side="base warm",
    connections=8,
    per_second=100.0,
    p50_ms=10.0,
    p99_ms=20.0,
    cpu_us={"dfsp-api": 150.0, "spsp-server": 50.0, "central-directory": 9.0, "postgres": 80.0, "wrk": 7.0},
    resident_mib={"dfsp-api": 60.0, "spsp-server": 50.0, "make-run": 200.0},
    others_share=0.1,
)
ON = {
    "commit": "bbbbbbb",
    "base_commit": "aaaaaaa",
    "base_settings": {"QUOTES_HTTP": "aiohttp"},
    "measured": "2026-11-27T12:00:00+00:00",
    "rounds": 1,
    "seconds": 5,
    "processors": 2,
    "processor": "any",
    "memory_gib": 4,
    "kernel": "6",
    "python": "3.11",
    "postgres": "18",
    "load": "wrk",
    "settings": {},
}


def parse(*arguments):
    return options.parse(["compare", *arguments], ("compare",))


def test_warm_runs_at_five_numbers_of_connections_and_the_other_workloads_at_128():
    assert [
        *(("warm", connections) for connections in (1, 8, 32, 128, 512)),
        *((workload, 128) for workload in ("cold", "pay", "look-up", "refuse")),
    ] == list(compare.places(parse()))


def test_given_workloads_and_connections_replace_the_defaults():
    chosen = parse("--workloads=pay,warm", "--connections=4")

    assert [("pay", 4), ("warm", 4)] == list(compare.places(chosen))


def test_settings_for_the_base_alone_are_separated_by_commas():
    assert {"QUOTES_A": "1", "QUOTES_B": "x=y"} == parse(
        "--base-settings=QUOTES_A=1,QUOTES_B=x=y"
    ).base_settings
    assert {} == parse("--base-settings=").base_settings

    with pytest.raises(SystemExit):
        parse("--base-settings=PATH=1")


def test_results_of_a_comparison_are_never_written_to_the_documents():
    assert parse().text_folder == parse().json_folder != options.PUBLISHED.resolve()


def test_a_ratio_is_new_to_base_round_by_round():
    rounds = [(100.0, 110.0), (50.0, 60.0), (200.0, 200.0)]
    cell = compare.Cell(
        "warm",
        8,
        base=[replace(ONE, round=number, per_second=base) for number, (base, _) in enumerate(rounds)],
        new=[replace(ONE, round=number, per_second=new) for number, (_, new) in enumerate(rounds)],
    )

    ratio = cell.ratio(compare.FIGURES[0])

    assert (1.1, 1.0, 1.2) == (ratio.median, ratio.min, ratio.max)


def test_processor_time_and_memory_count_the_six_services_alone():
    values = {figure.title: figure.value(ONE) for figure in compare.FIGURES}

    assert (200.0, 60.0) == (values["Python µs"], values["largest MiB"])


def test_the_document_names_both_commits_and_shows_every_figure():
    cell = compare.Cell("warm", 8, [ONE], [replace(ONE, per_second=125.0)])
    result = {"goodput": 80.0, "p50_ms": 1.0, "p99_ms": 2.0}
    pair = compare.OverloadedPair(
        300.0, {"base": 100.0, "new": 100.0}, {"base": result, "new": {**result, "goodput": 88.0}}
    )

    text = compare.described(ON, [cell], [pair])

    assert "# bbbbbbb compared with aaaaaaa QUOTES_HTTP=aiohttp" in text
    assert all(f" {figure.title} " in text for figure in compare.FIGURES)
    assert "1.25 (1.25 to 1.25)" in text
    assert "100 → 125" in text
    assert "1.10 (1.10 to 1.10)" in text


@pytest.mark.parametrize("has_python", [False, True])
def test_a_base_must_be_a_checkout_with_an_environment(tmp_path, has_python):
    if has_python:
        python = tmp_path / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.touch()

    with pytest.raises(BenchmarkError, match="git worktree add"):
        Checkout.at(tmp_path, {})

    (tmp_path / "shared" / "network").mkdir(parents=True)
    if has_python:
        assert str(tmp_path / ".venv" / "bin" / "python") == Checkout.at(tmp_path, {}).python


def test_a_comparison_without_a_base_is_refused():
    with pytest.raises(BenchmarkError, match="BASE=folder"):
        compare.run(parse(f"--data={Path('unused')}"))
