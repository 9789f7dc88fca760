"""The profile of a replayed step: its counts are those of the workload, its times add up, and it can be asked for."""

import pytest
from click.testing import CliRunner
from rich.console import Console

from benchmarks import work, workloads
from benchmarks.__main__ import main
from benchmarks.contenders.ours import Replayed
from benchmarks.profile import KINDS, lines, profile, show
from benchmarks.workload import problem


@pytest.fixture(scope="module", params=["vae_mlp", "conv_autoencoder", "wgan_gp_critic"])
def profiled(request):
    workload = workloads.load(request.param)
    given = problem(workload)
    return workload, given, profile(Replayed(workload, given, 2), 2)


def test_products_and_convolutions_are_counted_as_by_the_shapes_of_eager_calls(profiled):
    """`work` counts what the backend is asked for, without replay; sums may be products with ones, which it leaves."""
    workload, given, found = profiled
    counted = sum(share.flop for share in found.values()) * workload.shards
    assert counted == pytest.approx(work.of(workload, given).flops, rel=0.02)


def test_of_each_kind_there_are_times_and_counts(profiled):
    _, _, found = profiled
    assert set(found) <= set(KINDS)
    assert all(len(share.seconds) == 2 and min(share.seconds) > 0 for share in found.values())
    assert {"products", "optimiser"} <= set(found)
    assert found["products"].calls > 0 and found["products"].bytes > 0


def test_the_table_has_the_most_time_first_and_all_of_it_last(profiled):
    _, _, found = profiled
    *rows, whole = [(row[0], float(row[1])) for row in lines(found)]
    assert [ms for _, ms in rows] == sorted((ms for _, ms in rows), reverse=True)
    assert whole[0] == "all" and whole[1] == pytest.approx(sum(ms for _, ms in rows), abs=0.01 * len(rows))
    console = Console(record=True, width=100, quiet=True)
    show(console, "a title", found)


def test_the_command_prints_a_table():
    done = CliRunner().invoke(main, ["small_ops", "--profile", "--steps", "2"])
    assert done.exit_code == 0, done.output
    assert "small_ops" in done.output and "GFLOP/s" in done.output and "elementwise" in done.output


def test_a_device_has_no_calls_to_time():
    done = CliRunner().invoke(main, ["small_ops", "--profile", "--backend", "strict"])
    assert done.exit_code == 2 and "--profile is of the host" in done.output
