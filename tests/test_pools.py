"""Prefill and decode on GPUs of their own: totals by hand, the transfer, mistakes."""

from math import inf

import pytest
from click.testing import CliRunner
from tolerances import EXACT

import qsjax as qs
from qsjax import Problem
from qsjax.cli import cli
from qsjax.questions.simulation import pools
from qsjax.questions.simulation.screening import Target
from qsjax.questions.simulation.sizing import sentences

ONE = Problem("llama-3.1-8b", "h100-sxm")
ASKED = {"isl": 2000, "osl": 200, "quantile": 0.5, "replica_gpus": [1]}


@pytest.fixture(scope="module")
def found():
    return qs.size_apart(ONE, "h200-sxm", rate=20.0, ttft="1s", tpot="20ms", **ASKED)


def test_both_pools_serve_the_rate_on_their_own_accelerators(found):
    prefill, decode = found.rows()
    assert (prefill["pool"], prefill["hardware"]) == ("prefill", "h200-sxm")
    assert (decode["pool"], decode["hardware"]) == ("decode", "h100-sxm")
    assert prefill["ttft_at_quantile"] <= 1.0 - found.transfer
    assert decode["tpot_at_quantile"] <= 0.02
    # Prefill makes one token of each answer, decode all of them.
    assert prefill["tokens_per_s"] == pytest.approx(prefill["requests_per_s"], rel=EXACT)
    for row in (prefill, decode):
        assert row["requests_per_s"] == pytest.approx(20.0, rel=0.2)


def test_totals_by_hand(found):
    prefill, decode = found.rows()
    total = found.totals()
    assert total["gpus"] == prefill["gpus"] + decode["gpus"]
    usd_per_s = (prefill["gpus"] * 7.912 + decode["gpus"] * 6.88) / 3600
    assert total["usd_per_million_tokens"] == pytest.approx(
        1e6 * usd_per_s / decode["tokens_per_s"], rel=1e-9
    )
    watts = sum(row["gpus"] * row["watts_per_gpu"] for row in (prefill, decode))
    assert total["joules_per_token"] == pytest.approx(watts / decode["tokens_per_s"], rel=1e-9)
    # 32 layers of 2 * 8 * 128 elements of 2 B for 2,000 tokens over 50 GB/s at 0.75, and 25 us.
    assert found.transfer == pytest.approx(32 * 4096 * 2000 / (50e9 * 0.75) + 25e-6, rel=1e-6)
    assert f"{total['gpus']} GPUs in all" in found.summary()
    assert found.summary().count("USD") == 1  # a pool alone makes no output


def test_both_pools_stand_in_a_table_with_units(found):
    """Names of fields and times in seconds were 118 characters wide."""
    (table,) = found.tables()
    assert table.heads == ["pool", "model", "hardware", "GPUs", "split", "TTFT ms", "TPOT ms",
                           "req/s"]  # fmt: skip
    for row, cells in zip(found.rows(), table.rows, strict=True):
        assert [int(cells[3]), float(cells[-1])] == [row["gpus"], row["requests_per_s"]]
    assert table.rows[0][-2] == "-"  # prefill makes no further token
    times = [float(table.rows[0][-3]), float(table.rows[1][-2])]
    known = [found.rows()[0]["ttft_at_quantile"], found.rows()[1]["tpot_at_quantile"]]
    assert times == pytest.approx([1000 * x for x in known], rel=1e-3)


def test_times_are_rounded_as_people_write_them(found):
    assert f"TTFT <= {1000 * (1.0 - found.transfer):.0f} ms for 50 %" in found.summary()


@pytest.mark.parametrize(("limit", "waiting", "queues"), [(inf, 31, 1), (9.0, 31, 0), (inf, 2, 0)])
def test_a_size_without_a_limit_on_ttft_says_how_many_users_queue(found, limit, waiting, queues):
    """TPOT alone is kept by any queue."""
    row = found.decode.rows()[0] | {"waiting": waiting, "decoding": 9}
    first, _ = sentences(row, Target(users=40.0, ttft=limit, tpot=0.02))
    told = "but of 40 users 31 wait for a first token on average: give a limit on"
    assert (first.count(told), first.count(" 40 users with T")) == (queues, 1 - queues)


@pytest.mark.parametrize(
    ("users", "waiting", "limit", "told"),
    [
        (40.0, 31, inf, "1 GPU serves 40 users with no limits, but of 40 users 31 wait for a"),
        (1.0, 1, inf, "1 GPU serves 1 user with no limits, but of 1 user 1 waits for a first"),
        (1.0, 1, 0.02, "GPU keeps TPOT <= 20 ms for 95 % of the requests, but of 1 user 1 waits"),
    ],
)
def test_users_who_queue_without_limits_break_none(found, users, waiting, limit, told):
    """`keeps no limits` would say that one was broken; one user waits, 31 users wait."""
    row = found.decode.rows()[0] | {"gpus": 1, "replica_gpus": 1, "binds": []}
    row |= {"waiting": waiting, "decoding": 0}
    first, _ = sentences(row, Target(users=users, ttft=inf, tpot=limit, quantile=0.95))
    assert told in first


def test_a_transfer_longer_than_the_limit_is_told(found, monkeypatch):
    monkeypatch.setattr(pools, "size", lambda *_, **__: found.decode)
    with pytest.raises(ValueError, match=r"ttft: 0\.001 s is over before the cache of a prompt"):
        qs.size_apart(ONE, rate=20.0, ttft=0.001, **ASKED)
    with pytest.raises(ValueError, match="one model on one accelerator"):
        qs.size_apart(Problem(["llama-3.1-8b", "qwen3-8b"], "h100-sxm"), rate=5.0, **ASKED)


def test_users_have_no_pools_of_their_own():
    line = ["size", "llama-3.1-8b", "--hardware", "h100-sxm", "--prefill-hardware", "h200-sxm"]
    told = CliRunner().invoke(cli, [*line, "--users", "4", "--isl", "500", "--osl", "50"])
    assert told.exit_code == 2
    assert "sized for a --rate" in told.output
