"""Outcomes of simulated deployments, sizing, traffic, the engines' rules, and the two verbs."""

import dataclasses
import gzip
import json
import math
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import qsjax as qs
from benchmarks import passes
from qsjax import catalog
from qsjax.cli import cli
from qsjax.cost.decode import decode_step
from qsjax.cost.shared import shared_steps
from qsjax.engines.rules import ENGINES, load_schedulers
from qsjax.engines.schedulers import (
    Scheduler,
    check_scheduler,
    default_scheduler,
    filling_of,
)
from qsjax.output import words
from qsjax.questions.simulation import (
    screening,
    searching,
    serving,
    sizing,
    slopes,
    steps,
    traffic,
)
from qsjax.questions.simulation.events import Event
from qsjax.questions.simulation.outcomes import Outcome, cut_of, needed_for, row_of
from qsjax.questions.simulation.traffic import Demand
from qsjax.records.specs import PHYSICAL, Partition, Records
from qsjax.records.units import GIB
from tests import tolerances

RULES = Scheduler()
ONE = qs.Problem("llama-3.1-8b", "h100-sxm", gpus=1)


def records(model="llama-3.1-8b", hardware="h100-sxm", **degrees):
    work = catalog.workload(model)
    return Records(catalog.model(model), catalog.hardware(hardware), Partition(**degrees), work)


def outcome(work, rules=RULES, model="llama-3.1-8b"):
    return serving.simulate([serving.deploy(records(model), PHYSICAL, rules, work)])[0]


@pytest.fixture(scope="module")
def busy():
    return outcome(traffic.open_loop(4.0, Demand("500-2000", "50-400", requests=400, seed=1)))


def test_passes_are_as_near_as_the_guide_says():
    guide = (Path(__file__).parents[1] / "docs/guides/simulation.md").read_text("utf-8")
    models = {
        "Qwen3-32B": "qwen3-32b",
        "Qwen3.6-35B": "qwen3.5-35b-a3b",
        "DeepSeek-V4": "deepseek-v4-flash",
    }
    kinds = ("decode steps", "prompts", "prompts beside answers")
    told = {}
    for name, model in models.items():
        cells = re.search(rf"(?m)^\| {name}.*?\|(.*)\|$", guide)[1].split("|")
        told |= {
            (model, kind): float(cell)
            for kind, cell in zip(kinds, cells, strict=True)
            if cell.strip()
        }
    found = passes.summary(passes.rows())
    assert {key: round(median) for key, (_, median, _) in found.items()} == told
    assert sum(count for count, *_ in found.values()) == 45
    assert all(bias < 0 for *_, bias in found.values())  # "all of them too fast"


def by_hand(finish=(8.0, 6.5, 9.5, 13.0), users=0.0):
    """Four requests, of which the middle ones are measured, and four runs of steps."""
    arrival, output = np.array([0.0, 1.0, 9.0, 10.0]), np.array([3.0, 2.0, 1.0, 4.0])
    work = traffic.Traffic(arrival, np.ones(4), output, np.zeros(4), np.array(users), np.zeros(4))
    ran = {
        "now": [1.0, 5.0, 6.5, 8.0],
        "steps": [1.0, 1.0, 3.0, 1.0],
        "seconds": [1.0, 2.0, 1.5, 1.0],
        "decoding": [0.0, 0.0, 2.0, 1.0],
        "chunk": [4.0, 1.0, 0.0, 0.0],
        "gap": [9.0, 1.5, 0.4, 9.0],
        "had": [1.0, 0.0, 1.0, 1.0],
        "later": [0.0, 0.0, 0.3, 0.0],
    }
    seen = Event(**{name: np.array(ran.get(name, [0.0] * 4)) for name in Event._fields})
    return Outcome(work, arrival, np.array([1.0, 5.0, 9.5, 11.0]), np.array(finish), seen, 0, 1)


def test_an_outcome_worked_by_hand():
    # The second and third request come at 1 and 9 s and take 5.5 and 0.5 s, 3 s on average, so that
    # 4 to 9 s count. Meanwhile 4 of the 7 s of the first answer pass and all 1.5 s of the second,
    # which waits for 1 s before. Steps take 1 s with a prompt of one token, and 2.5 s without: 3 of
    # two sequences, one of which made a token 0.4 s ago, 4 further tokens after 0.3 s each, and
    # one of a sequence that made a token 9 s ago.
    row = row_of(by_hand(), replicas=2, gpus=4.0, ttft=4.0, tpot=1.5)
    want = {"measured_requests": 2, "ttft_mean": 2.25, "tpot_mean": 1.5, "e2e_mean": 3.0}
    want |= {"itl_mean": (0.4 + 4 * 0.3 + 9) / 6, "requests_per_s": 2 * (4 / 7 + 1) / 5}
    want |= {"tokens_per_s": 2 * (3 * 4 / 7 + 2) / 5, "tokens_per_s_per_gpu": (12 / 7 + 2) / 10}
    want |= {"attained": 1.0, "goodput_per_s": 22 / 35, "waiting": 2 / 5, "decoding": 2 * 5.5 / 5}
    want |= {"share_prompts": 1 / 5, "share_decode": 1 / 2, "share_idle": 3 / 10}
    assert {name: row[name] for name in want} == pytest.approx(want, rel=tolerances.EXACT)
    assert [row[f"ttft_p{x}"] for x in (50, 90, 95, 99)] == [None] * 4

    one = by_hand()
    assert (one.quantile("ttft", 0.5), one.quantile("ttft", 0.51)) == (0.5, 4.0)
    assert (one.quantile("itl", 0.66), one.quantile("itl", 0.67)) == (0.3, 0.4)
    missed = ((3.9, math.inf), (math.inf, 1.4), (4.0, 0.0))
    assert [one.attained(*limits) for limits in missed] == [0.5] * 3
    assert (one.longest, one.goodput(tpot=1.4)) == (5.0, 0.5 * one.requests_per_s)
    # Of a rush few answers end before 9 s, or all come at once: both count until the last one's
    # end.
    rush = by_hand(finish=(2.0, 16.0, 9.5, 18.0))
    assert (rush.span, rush.requests_per_s, rush.tokens_per_s) == ((1.0, 16.0), 2 / 15, 3 / 15)
    assert dataclasses.replace(one, arrival=np.zeros(4)).requests_per_s == 2 / 9.5
    # In a closed loop from the end of the first answer to that of the last but one: of two users'
    # requests, sent at 0, 0, 4 and 5 s, 3, 0, 1 and 2 s are within, two at a time in 3 s. The two
    # that are measured take 4 and 1 s.
    loop = by_hand(finish=(7.0, 4.0, 5.0, 10.0), users=2.0)
    loop = dataclasses.replace(loop, arrival=np.array([0.0, 0.0, 4.0, 5.0]))
    assert (loop.window, loop.requests_per_s) == ((4.0, 7.0), pytest.approx(2 * 2 / 5))
    assert loop.tokens_per_s == pytest.approx(2 * 3 / 5)
    assert dataclasses.replace(loop, cut=0).window == (0.0, 10.0)
    # 20 requests tell a median, and no more.
    times = {name: np.tile(getattr(one, name), 5) for name in ("arrival", "first", "finish")}
    work = traffic.Traffic(*(np.tile(x, 5) if x.ndim else x for x in one.traffic))
    all_of = dataclasses.replace(one, cut=0, traffic=work, **times)
    row = row_of(all_of, replicas=1, gpus=1.0, ttft=3.0, tpot=1.0)
    assert (row["ttft_p50"], row["ttft_p90"], row["attained"]) == (1.0, None, 0.5)
    assert row["tpot_mean"] == pytest.approx((3.5 + 1.5 + 2 / 3) / 3, rel=tolerances.EXACT)


def test_a_rate_below_what_is_sustained_is_what_is_answered():
    """Of answers that take a fifth of the run 82 % were counted, as it still filled."""
    seen = outcome(traffic.open_loop(4.0, Demand("500-2000", "1300-1300", requests=400)))
    assert 0.15 * seen.arrival[-1] < seen.mean("e2e") < 0.25 * seen.arrival[-1]
    came = (len(seen.arrival) - 1) / seen.arrival[-1]
    assert seen.requests_per_s == pytest.approx(came, rel=0.03)


def test_a_run_in_which_the_deployment_still_fills_is_told():
    found = qs.simulate(ONE, isl=10, osl=1000, rate=[8.0, 16.0], requests=400)
    (told,) = found.remarks()
    assert told.startswith("At 16 requests/s the measured requests come within ")
    wanted = float(told.split("give ")[1].removesuffix(" requests."))
    assert wanted == pytest.approx(5 * 16 * found.rows()[1]["e2e_mean"], rel=0.01)


def test_small_rates_are_no_zeros():
    """2 requests in 1,000 s were shown as 0.00 a second."""
    found = qs.simulate(ONE, isl=1000, osl=200, rate=2e-3, requests=400)
    assert float(found.tables()[0].rows[0][1]) == pytest.approx(2e-3, rel=0.1)


@pytest.mark.parametrize(
    ("requests", "users", "cut"),
    [(100, 0, 10), (100, 25, 25), (30, 10, 10), (29, 10, 0), (15, 0, 2), (13, 0, 0)],
)
def test_ends_are_left_out_where_ten_requests_remain(requests, users, cut):
    assert cut_of(traffic.closed_loop(users, Demand(1, 1, requests=requests))) == cut


# Conservation.
def test_every_token_is_made_once(busy):
    work, made = busy.traffic, busy.steps
    assert busy.evictions == 0
    np.testing.assert_allclose(made.chunk.sum(), work.prompt.sum(), rtol=tolerances.EXACT)
    np.testing.assert_allclose(
        (made.steps * made.decoding).sum(), (work.output - 1).sum(), rtol=tolerances.EXACT
    )


def test_every_request_is_served_in_order(busy):
    assert np.all(busy.arrival < busy.first)
    assert np.all(busy.first < busy.finish)
    assert np.all(np.diff(busy.first) >= 0)


def test_shares_of_time_sum_to_one(busy):
    np.testing.assert_allclose(sum(busy.shares.values()), 1.0, rtol=tolerances.EXACT)


def test_littles_law_holds_between_steps_and_requests(busy):
    # Sequences that decode, summed over the steps, are the times that requests decode.
    in_steps = (busy.steps.seconds * busy.steps.decoding).sum()
    in_requests = (busy.finish - busy.first).sum()
    np.testing.assert_allclose(in_steps, in_requests, rtol=1e-6)


def test_littles_law_holds_for_users():
    seen = outcome(traffic.closed_loop(12, Demand("500-1500", "100-300", requests=600)))
    begin, end = seen.window
    counted = np.sum((seen.finish > begin) & (seen.finish <= end)) / (end - begin)
    np.testing.assert_allclose(counted * seen.mean("e2e"), 12.0, rtol=0.02)
    np.testing.assert_allclose(seen.requests_per_s, counted, rtol=0.02)
    # Between the cuts all users wait or are served; filling and emptying made 11.7 of them.
    short = outcome(traffic.closed_loop(12, Demand("500-1500", "100-300", requests=60)))
    assert sum(short.in_flight.values()) == pytest.approx(12.0, rel=1e-9)
    assert short.shares["idle"] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(("users", "osl"), [(300, 512), (400, 512), (300, "400-600")])
def test_users_over_the_time_of_a_request_is_the_rate(users, osl):
    """What ends in a window of 1.3 rounds of answers was counted: 400 users had 60 % of the rate of
    350, and 300 of answers that vary 81 % of theirs.
    """
    (row,) = qs.simulate(ONE, users=users, isl=256, osl=osl, requests=1000).rows()
    assert row["requests_per_s"] * row["e2e_mean"] == pytest.approx(users, rel=tolerances.EXACT)
    # A replica is simulated with ceil(users / replicas): 9 users of 8 are no 16.
    eight = qs.simulate(
        dataclasses.replace(ONE, gpus=8), Partition(), users=9, isl=256, osl=osl, requests=50
    )
    (row,) = eight.rows()
    assert row["waiting"] + row["decoding"] == pytest.approx(9.0)
    assert row["requests_per_s"] * row["e2e_mean"] == pytest.approx(9.0, rel=0.05)


def test_few_rounds_of_answers_have_the_rate_of_many():
    """The last requests, with no others behind them, end sooner: five rounds had 6 % too many."""
    asked = {"users": 200, "isl": 1000, "osl": "256-768"}
    few, many = (qs.simulate(ONE, requests=n, **asked).rows()[0] for n in (1000, 16_000))
    for name in ("requests_per_s", "tokens_per_s"):
        assert few[name] == pytest.approx(many[name], rel=0.015)


def test_a_run_has_five_requests_of_each_user_or_says_that_it_has_too_few():
    """Of 1,500 users a run of 1,000 requests served 1,000 at most, and nothing said so."""
    found = qs.simulate(ONE, users=[8, 900], isl=10, osl=5)
    assert [len(one.outcome.arrival) for one in found.served[0].loads] == [8000, 8000]
    assert found.remarks() == []
    (told,) = qs.simulate(ONE, users=[8, 900], isl=10, osl=5, requests=1000).remarks()
    assert re.fullmatch("At 900 users 1,000 requests .* give 4,500 requests.", told)


def test_what_is_in_flight_is_that_of_the_measured_time():
    """Little's law between arrivals by the clock; a rush counts until its last answer."""
    seen = outcome(traffic.open_loop(4.0, Demand("500-1500", "100-300", requests=600)))
    assert sum(seen.in_flight.values()) == pytest.approx(
        seen.requests_per_s * seen.mean("e2e"), rel=0.05
    )
    rush = outcome(traffic.open_loop(1e6, Demand(500, 100, requests=60)))
    assert sum(rush.in_flight.values()) > 20
    assert sum(rush.shares.values()) == pytest.approx(1.0)


def test_what_one_user_of_a_replica_keeps_is_served():
    """With a user's own prompt in TPOT no number of GPUs kept 80 ms, where 78.6 was the best."""
    slow, work = qs.Problem("llama-3.1-405b", "l4"), {"isl": 512, "osl": 128, "replica_gpus": [64]}
    (row,) = qs.size(slow, users=2, tpot=0.08, **work).rows()
    assert row["gpus"] is not None
    assert row["best_tpot"] <= row["tpot_at_quantile"] <= 0.08


def test_users_who_think_longer_need_no_more_gpus():
    """Equal pauses kept together who met once: 200 users took 2 H100, 6 if they paused for 5 s.

    The screening left out the pauses, too: it asked for as many however long they are.
    """
    few = {"isl": 4000, "osl": 300, "ttft": 2.0, "quantile": 0.5, "replica_gpus": [1]}
    found = [qs.size(ONE, users=200, think=x, scheduler=RULES, **few).rows() for x in (0, 5, 40)]
    assert [row["gpus"] for (row,) in found] == [2, 2, 1]


def test_a_size_for_a_rate_is_paid_by_what_the_rate_makes():
    """Of gpt-oss-120b, 400 requests of 6.8 s made 7,525 tokens/s of 10,000: 0.53 USD for 0.40."""
    asked = {"isl": 500, "osl": 200, "tpot": 0.03, "scheduler": RULES, "replica_gpus": [1]}
    (row,) = qs.size(ONE, rate=4, quantile=0.5, **asked).rows()
    assert (row["gpus"], row["requests_per_s"]) == (1, 4.0)
    assert row["tokens_per_s_per_gpu"] == pytest.approx(800.0)
    dollars = 1e6 * 6.88 / 3600 / 800  # an hour of the catalogue
    assert row["usd_per_million_tokens"] == pytest.approx(dollars, rel=1e-3)
    assert row["goodput_per_s"] == pytest.approx(4.0 * row["attained"])


def test_one_request_has_no_rate_and_one_token_no_gaps():
    """They were told "at inf req/s", "one every - on average" and "0.00 requests/s"."""
    alone = qs.simulate(ONE, Partition(), trace="arrival,isl,osl\n0,100,10\n").summary()
    assert " on 1 h100-sxm with all at once: first token after " in alone
    few = qs.simulate(ONE, Partition(), rate=0.001, isl=500, osl=1, requests=20).summary()
    assert "every" not in few
    assert " ms on average; 0.00" in few
    assert "; 0.00 requests/s" not in few


@pytest.mark.parametrize(
    ("load", "is_told"),
    [
        ({"users": 4, "osl": 20}, True),
        ({"users": 4, "osl": "18-22"}, False),
        ({"users": 4, "osl": 20, "think": "1s"}, False),
        ({"users": 1, "osl": 20}, False),
        ({"rate": 1, "osl": 20}, False),
    ],
)
def test_users_who_stay_in_step_are_told(load, is_told):
    """100 users of Llama 3.1 70B were said to take 64 H100 within 1 s; 16 if lengths vary."""
    notes = qs.simulate(ONE, Partition(), isl=500, requests=30, **load).cautions()
    assert ["18-22 for osl" in note for note in notes] == [True] * is_told


@pytest.mark.parametrize(("osl", "is_told"), [("495-505", True), ("250-750", False)])
def test_answers_of_nearly_one_length_that_still_part_are_told(osl, is_told):
    """TTFT fell from 1.7 to 1.0 s within a run of Qwen3-32B, and its mean was all that was said."""
    asked = qs.Problem("qwen3-32b", "h200-sxm", gpus=2)
    found = qs.simulate(asked, Partition(tp=2.0), users=64, isl=4096, osl=osl, requests=1000)
    early, late = found.served[0].loads[0].outcome.settling
    assert is_told == (early > 1.25 * late)
    assert ["users begin in step" in note for note in found.cautions()] == [True] * is_told


def test_the_answer_says_which_loads_keep_the_limits():
    asked = {"isl": 500, "osl": 20, "requests": 60, "tpot": "9ms"}
    found = qs.simulate(ONE, Partition(), users=[1, 4, 64, 128], **asked)
    kept, missed = (f"{row['attained']:.0%}" for row in found.rows()[1:3])
    says = f"{kept} of the requests keep TPOT <= 9 ms at 4 users, {missed} at 64 users."
    assert found.summary().startswith(f"llama-3.1-8b on 1 h100-sxm: {says}\n")


def test_a_long_answer_agrees_with_the_steady_state():
    users, isl, osl = 32, 100, 4000
    seen = outcome(traffic.closed_loop(users, Demand(isl, osl, requests=5 * users)))
    one = records()

    work = dataclasses.replace(one.workload, context=isl + osl / 2.0, batch=float(users))
    steady = decode_step(one._replace(workload=work, gpus=None), PHYSICAL)
    np.testing.assert_allclose(seen.mean("tpot"), float(steady.tpot), rtol=0.02)
    np.testing.assert_allclose(seen.tokens_per_s, float(steady.tokens_per_s), rtol=0.02)


def test_a_wave_of_equal_requests_agrees_with_the_steady_state():
    """Decoding waits under SGLang, so that equal requests stay in step (`Filling.bunched`)."""
    users, isl, osl, hbm = 16, 8192, 512, 141e9
    one = records("qwen3-8b", "h200-sxm")
    rules = default_scheduler("sglang", hbm)
    work = traffic.closed_loop(users, Demand(isl, osl, requests=10 * users))
    seen = serving.simulate([serving.deploy(one, PHYSICAL, rules, work)])[0]
    served = dataclasses.replace(one.workload, context=isl + osl / 2.0, batch=float(users))
    filling = filling_of("sglang", hbm)._replace(bunched=1.0)
    steady = shared_steps(one._replace(workload=served, gpus=None), PHYSICAL, isl, osl, filling)
    assert seen.mean("ttft") == pytest.approx(float(steady.ttft), rel=0.02)
    assert seen.mean("tpot") == pytest.approx(float(steady.tpot), rel=0.02)


def test_a_measured_case_of_long_prompts_and_short_answers():
    # Qwen3-8B on one H200, 9,000 in and 30 out, 64 in flight: 308.8 ms between tokens measured.
    # The steady average says 637.7, since nothing bounds what it adds for prompts.
    work = traffic.closed_loop(64, Demand(9000, 30, requests=640))
    one = records("qwen3-8b", "h200-sxm")
    rules = default_scheduler("vllm", float(one.hardware.hbm_bytes))
    seen = serving.simulate([serving.deploy(one, PHYSICAL, rules, work)])[0]
    assert abs(seen.mean("tpot") / 0.3088 - 1.0) < 0.15


def test_latency_rises_with_the_rate():
    asked = {"isl": "200-800", "osl": "20-80", "requests": 200, "scheduler": RULES}
    found = qs.simulate(ONE, rate=[0.5, 4.0, 16.0, 64.0], **asked)
    for metric in ("ttft", "tpot", "e2e"):
        assert np.all(np.diff([row[f"{metric}_mean"] for row in found.rows()]) > 0)


def test_a_cached_prefix_shortens_the_first_token():
    plain, cached = (
        outcome(traffic.closed_loop(1, Demand(4000, 50, share, 30))).mean("ttft")
        for share in (0.0, 0.5)
    )
    assert cached < 0.7 * plain


def test_outcomes_do_not_depend_on_the_blocks():
    one = serving.deploy(
        records(), PHYSICAL, RULES, traffic.closed_loop(4, Demand(300, 20, requests=60))
    )
    some = [
        serving.with_traffic(
            one, traffic.closed_loop(4, Demand("100-300", "5-20", requests=60, seed=seed))
        )
        for seed in range(7)
    ]
    together, apart = serving.simulate(some), serving.simulate(some, lanes=2)
    for a, b in zip(together, apart, strict=True):
        np.testing.assert_allclose(a.finish, b.finish, rtol=tolerances.EXACT)


def test_a_rate_beyond_capacity_says_what_would_do():
    found = qs.simulate(ONE, rate=[1, 500], isl=2000, osl=100, requests=100, scheduler=RULES)
    (own,) = found.served
    assert len(found.remarks()) == 1
    replicas = math.ceil(500.0 / own.largest_rate)
    assert f"{replicas} of it would do" in found.remarks()[0]
    assert own.loads[1].outcome.requests_per_s <= 1.05 * own.largest_rate


def test_a_rate_may_be_beyond_one_design_and_not_beyond_another():
    """Such loads were compared with each other, which ended in NumPy's words."""
    two = qs.Problem(["llama-3.1-8b", "llama-3.1-70b"], "h200-sxm", gpus=2)
    found = qs.simulate(two, rate=8, isl=2000, osl=100, requests=100, scheduler=RULES)
    small, large = found.served
    assert large.largest_rate < 8 < small.largest_rate
    assert sum("of it would do" in text for text in found.remarks()) == 1


def test_a_largest_rate_is_of_one_user_more_than_run():
    one = serving.deploy(
        records(), PHYSICAL, RULES, traffic.closed_loop(4, Demand(300, 20, requests=60))
    )
    few = one._replace(scheduler=dataclasses.replace(RULES, sequences=8.0))
    full = one._replace(table=one.table._replace(cache=10.5 * (320.0 + one.table.cache_each)))
    loops = [serving.saturated(each).traffic for each in (few, full, one)]
    assert [int(work.users) for work in loops] == [9, 11, serving.SATURATING + 1]
    assert [len(work.prompt) for work in loops] == [400, 400, 4 * 401]


def test_tables_hold_the_laws_at_their_knots_and_between():
    one = records("gpt-oss-120b")
    table = steps.step_table(one, PHYSICAL, (4000.0, 5000.0))
    worst = 0.0

    for batch in (1.0, 3.0, 11.0, 50.0, 170.0):
        for context in (64.0, 700.0, 5000.0, 90_000.0):
            work = dataclasses.replace(one.workload, context=context, batch=batch, kv_block=1.0)
            law = float(decode_step(one._replace(workload=work, gpus=None), PHYSICAL).tpot)
            low, _ = steps.context_segment(np.asarray(context))
            _, base, slope = steps.decode_line(table, np.asarray(batch), low)
            worst = max(worst, abs(float(base + slope * context) / law - 1.0))
    assert worst < 0.01


def test_copies_share_the_load_and_the_best_split_is_taken():
    asked = {"isl": 500, "osl": 20, "requests": 60}
    one = qs.simulate(ONE, qs.Partition(), users=3, **asked).rows()[0]
    two = dataclasses.replace(ONE, gpus=2)
    both = qs.simulate(two, qs.Partition(), users=6, **asked).rows()[0]
    assert both["replicas"] == 2
    np.testing.assert_allclose(both["requests_per_s"], 2 * one["requests_per_s"], rtol=1e-12)
    np.testing.assert_allclose(both["ttft_mean"], one["ttft_mean"], rtol=1e-12)
    best = qs.explore(dataclasses.replace(two, context=510)).rows()[0]
    chosen = qs.simulate(two, users=6, **asked).rows()[0]
    assert all(chosen[name] == best[name] for name in ("tp", "pp", "dp", "kvp", "replicas"))


def test_loads_of_several_accelerators_are_one_data_set(tmp_path):
    problem = qs.Problem("llama-3.1-8b", ["h100-sxm", "h200-sxm"], gpus=1)
    found = qs.simulate(problem, users=[1, 4], isl=500, osl=20, requests=60)
    data = found.dataset
    assert dict(data.ttft_mean.sizes) == {"model": 1, "hardware": 2, "load": 2}
    assert data.ttft_mean.attrs == {"long_name": "time to first token: mean", "units": "s"}
    assert all({"units", "long_name"} <= data[name].attrs.keys() for name in data.data_vars)
    assert len(repr(found).splitlines()) <= 11
    assert len(found.drawings()) == 2
    written = {path.name for path in found.save(tmp_path)}
    assert {"simulate.csv", "simulate.nc", "requests.csv", "result.json"} <= written


# Sizing.
@pytest.mark.slow
def test_the_fewest_gpus_keep_the_limits_and_one_replica_less_does_not():
    asked = {"isl": "1500-2500", "osl": "100-300", "scheduler": RULES, "replica_gpus": [1, 2]}
    found = qs.size(ONE, users=60, ttft=1.0, tpot=0.0125, quantile=0.9, **asked)
    (one,), target = found.sized, found.target
    assert one.gpus == one.replicas * one.option.gpus
    assert searching.broken(one.outcome, target) == {}
    assert one.replicas > 1
    assert set(one.binds) <= {"ttft", "tpot"}
    assert one.binds
    for name, had in one.binds.items():
        assert had > getattr(target, name)
        assert f"{name.upper()} ({words.value(had, 's')})" in found.summary()
    assert one.outcome.quantile("tpot", 0.9) <= target.tpot


def test_looser_limits_and_fewer_users_need_no_more_gpus():
    def gpus(users, tpot):
        asked = {"isl": 2000, "osl": 200, "scheduler": RULES, "replica_gpus": [1]}
        found = qs.size(ONE, users=users, ttft=2.0, tpot=tpot, quantile=0.5, **asked)
        assert found.tables() == []  # the sentence says all of one
        assert not found.rows()[0]["is_moe"]
        (both,) = dataclasses.replace(found, sized=found.sized * 2).tables()
        assert len(both.rows) == 2
        return found.rows()[0]["gpus"]

    tight = gpus(60.0, 0.012)
    assert gpus(60.0, 0.03) <= tight
    assert gpus(20.0, 0.012) <= tight


def test_no_number_of_gpus_beats_the_lone_sequence():
    asked = {"isl": 500, "osl": 50, "scheduler": RULES, "replica_gpus": [1]}
    found = qs.size(ONE, users=2.0, tpot=1e-5, quantile=0.5, **asked)
    (row,) = found.rows()
    assert row["gpus"] is None
    assert row["best_tpot"] > 1e-5
    assert found.dataset.best_tpot.attrs["units"] == "s"


@pytest.mark.parametrize(
    ("needs", "fewest", "searches"),
    [
        # 16 GPUs of the one, 12 of the other; then 20: the other was flattered as well.
        ({"large": (1, 2), "small": (3, 3)}, ("small", 3), 2),
        ({"large": (1, 2), "small": (3, 5)}, ("large", 2), 3),
        ({"large": (1, 1), "small": (3, 3)}, ("large", 1), 1),
    ],
)
def test_a_design_that_few_requests_flatter_is_not_the_last_word(
    monkeypatch, needs, fewest, searches
):
    """Seemingly one copy of 8 GPUs did, then two: 16 GPUs were told where 12 serve."""
    rest = {"design": {}, "records": None, "ttft": 0.1, "tpot": 0.01, "rate": 1.0, "users": 1.0}
    large, small = (
        screening.Option(gpus=gpus, table=name, **rest)
        for gpus, name in ((8, "large"), (4, "small"))
    )

    def search(left, asked, below=math.inf):
        for one in left:
            if one.gpus * needs[one.table][0] < below:
                return one, needs[one.table][0], 1
        return None, 0, 1

    def confirm(option, asked, replicas):
        assert asked.measured == 2000
        assert asked.demand.seed in {1, 2, 3}
        return needs[option.table][1], None, {}

    monkeypatch.setattr(searching, "search", search)
    monkeypatch.setattr(searching, "confirm", confirm)
    asked = screening.Asked(RULES, Demand(9, 9), screening.Target(rate=1.0))
    found, simulated = searching.fewest([large, small], asked, 400, 2000)
    assert (found[0].table, found[1], simulated) == (*fewest, searches)


@pytest.mark.parametrize("seed", range(40))
def test_a_search_finds_the_fewest_gpus_of_all(monkeypatch, seed):
    """Against all numbers of copies, where each design serves from a number of its own."""
    rng = np.random.default_rng(seed)
    target = screening.Target(rate=float(rng.integers(1, 2000)))
    records = SimpleNamespace(partition=SimpleNamespace(dp=1.0))
    rest = {"design": {}, "records": records, "table": None, "tpot": 0.01, "users": 1.0}
    some = [
        screening.Option(gpus=int(rng.choice(sizing.REPLICA_GPUS)), ttft=k, rate=rate, **rest)
        for k, rate in enumerate(rng.uniform(1.0, 10.0, 30))
    ]
    least = [screening.least_replicas(one, target) for one in some]
    needs = [
        math.ceil(n * x) for n, x in zip(least, rng.uniform(searching.TRUST, 4.0, 30), strict=True)
    ]
    monkeypatch.setattr(
        searching, "_deployment", lambda option, asked, replicas: (option, replicas)
    )
    monkeypatch.setattr(searching, "_simulated", list)
    monkeypatch.setattr(
        searching, "broken", lambda it, target: {"rate": 0.0} if it[1] < needs[it[0].ttft] else {}
    )
    asked = screening.Asked(RULES, Demand(9, 9), target)
    option, replicas, simulated = searching.search(some, asked)
    fewest = min(one.gpus * need for one, need in zip(some, needs, strict=True))
    assert option.gpus * replicas == fewest
    assert replicas == needs[option.ttft]
    assert simulated <= len(some)
    assert searching.search(some, asked, below=fewest)[0] is None


@pytest.mark.parametrize(
    ("target", "decoding", "is_told"),
    [
        (screening.Target(users=9.0), 1.0, True),
        (screening.Target(users=9.0), 14.0, True),
        (screening.Target(users=9.0), 16.0, False),
        (screening.Target(users=9.0, ttft=60.0), 1.0, False),
        (screening.Target(rate=9.0), 1.0, False),
    ],
)
def test_users_who_wait_are_told_where_nothing_bounds_them(target, decoding, is_told):
    row = {"gpus": 2, "waiting": 5.0, "decoding": decoding}
    told = sizing._serves(row, target, "9 users", "no limits")
    assert ("of 9 users 5 wait" in told) == is_told


@pytest.mark.parametrize("begin", [1, 7, 12, 20])
@pytest.mark.parametrize("need", [1, 2, 9, 20, 25])
def test_what_is_found_is_the_least_that_serves_or_all_that_may(monkeypatch, need, begin):
    """Of 20 users no more than 20 copies are of use."""
    monkeypatch.setattr(searching, "_deployment", lambda option, asked, replicas: replicas)
    monkeypatch.setattr(searching, "_simulated", list)
    missed = {"tpot": 0.05}
    monkeypatch.setattr(searching, "broken", lambda it, target: missed if it < need else {})
    option = SimpleNamespace(records=SimpleNamespace(partition=SimpleNamespace(dp=1.0)))
    asked = screening.Asked(RULES, Demand(9, 9), screening.Target(users=20.0))
    found = searching.confirm(option, asked, begin)
    fewest = min(need, 20)
    assert found == (fewest, fewest, missed if need > 1 else {})


def test_a_size_screens_by_the_mean_of_many_lengths():
    """One drawn request decided before; the longest that was drawn must fit."""
    asked = screening.Asked(RULES, Demand("100-100000", 10), screening.Target(users=1.0))
    other = asked._replace(demand=asked.demand._replace(seed=5))
    one, two = (screening.options(ONE, (0, 0), each, [1]) for each in (asked, other))
    np.testing.assert_allclose(one[0].rate, two[0].rate, rtol=0.2)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"users": 4, "isl": 5, "osl": 5, "scheduler": {"budgets": 3}}, "budgets is not known"),
        ({"users": "many", "isl": 5, "osl": 5}, "not a number"),
        ({"users": [1, 2.5], "isl": 5, "osl": 5}, "whole numbers"),
        ({"trace": "arrival,isl,osl\n0,1,1\n", "isl": 5}, "states the lengths"),
        ({"users": 4, "isl": 5}, "osl must say"),
        ({"users": 4, "isl": 5, "osl": 5, "scheduler": [1]}, "a list was given"),
        ({"users": 4, "isl": 5, "osl": 5, "prefix_hit_rate": "half"}, "'half' is not a number"),
        ({"users": 4, "isl": 5, "osl": 5, "think": -1}, "think: -1 is not allowed"),
        ({"users": 4, "rate": 1, "isl": 5, "osl": 5}, "exactly one"),
        ({"users": [2, 64], "isl": 5, "osl": 5, "gpus": 4}, "users: 2 leave some of the 4 atten"),
    ],
)
def test_mistakes_in_python(more, says):
    problem = dataclasses.replace(ONE, gpus=more.get("gpus", 1))
    given = {name: value for name, value in more.items() if name != "gpus"}
    with pytest.raises(ValueError, match=says):
        qs.simulate(problem, qs.Partition(), **given)


def test_limits_in_milliseconds_are_noticed():
    """33 was 33 s to `size`, where `explore` said so."""
    asked = {"users": 1, "isl": 50, "osl": 9}
    for found in (
        qs.size(ONE, tpot=33, ttft=2000, replica_gpus=[1], **asked),
        qs.simulate(ONE, Partition(), tpot=33, ttft=2000, requests=20, **asked),
    ):
        odd = [line for line in found.cautions() if "the limit on" in line]
        assert odd == [
            f"Note: the limit on {name} is {limit} s; 20 ms is 0.02."
            for name, limit in (("TPOT", 33), ("TTFT", 2000))
        ]
    assert not any("limit on" in x for x in qs.simulate(ONE, tpot=0.03, ttft=9, **asked).cautions())


def test_users_of_a_size_are_met_anywhere_in_their_answers():
    """All began at once: of nearly equal answers TTFT was 894 ms and TPOT 36 ms, those of a long
    run, in which they drift apart, are 612 and 34.7; and 200 requests decided.
    """
    two = qs.Problem("qwen3-32b", "h100-sxm", gpus=2, axes={"tp": 2})
    asked = {"users": 25, "isl": 4096, "osl": "461-563"}
    sized = qs.size(two, tpot=0.04, replica_gpus=[2], **asked)
    (row,), (one,) = sized.rows(), sized.sized
    assert (row["gpus"], row["measured_requests"] >= 2000) == (2, True)
    assert (row["ttft_at_quantile"], row["tpot_at_quantile"]) == pytest.approx(
        (0.615, 0.0347), rel=0.01
    )
    long = qs.simulate(two, requests=8000, **asked).rows()[0]
    for name in ("ttft_p95", "tpot_p95", "requests_per_s"):
        assert row[name] == pytest.approx(long[name], rel=0.015)
    # Halfway means a context that holds what is made already, and no request longer than before.
    work = traffic.closed_loop(3, Demand(100, "50-60", requests=9))
    met = traffic.met_midway(work, 2.0)
    np.testing.assert_array_equal(met.prompt + met.output, work.prompt + work.output)
    np.testing.assert_array_equal(met.cached[:2], met.prompt[:2] - 1)
    assert np.all(met.output[:2] < work.output[:2])
    np.testing.assert_array_equal(met.output[2:], work.output[2:])
    alike = traffic.closed_loop(3, Demand(100, 50, requests=9))
    assert traffic.met_midway(alike, 2.0) is alike
    assert one.outcome.traffic.users == 25.0


def test_limits_of_a_problem_are_not_those_of_a_size():
    problem = dataclasses.replace(ONE, limits=qs.Limits(max_tpot=0.1))
    with pytest.raises(ValueError, match="takes its limits as ttft"):
        qs.size(problem, users=1, isl=5, osl=5)
    with pytest.raises(ValueError, match="ttft: '2 sec' is not a number"):
        qs.size(ONE, users=1, isl=5, osl=5, ttft="2 sec")
    several = dataclasses.replace(ONE, axes={"hbm_bw": [1e12, 2e12]})
    with pytest.raises(ValueError, match=r"hbm_bw \(2 values\)"):
        qs.size(several, users=1, isl=5, osl=5, quantile=0.5)


def test_arrivals_have_the_rate_asked_for():
    work = traffic.open_loop(4.0, Demand(10, 10, requests=50, seed=5))
    assert np.all(np.diff(work.arrival) > 0)
    assert work.arrival[-1] < 50 / 4.0 < work.arrival[-1] + 2.0
    seen = outcome(traffic.open_loop(1.0, Demand(200, 20, requests=300, seed=5)))
    np.testing.assert_allclose(seen.requests_per_s, 1.0, rtol=0.1)


# Bad input.
TRACE = "arrival,isl,osl\n0,100,10\n1,abc,10\n2,100,0\n-1,100,10\n3,100,1.5\n"


def test_bad_rows_of_a_trace_are_named():
    with pytest.raises(ValueError, match="trace") as told:
        traffic.read_trace(TRACE)
    text = str(told.value)
    for row in (3, 4, 5, 6):
        assert f"row {row}:" in text
    assert "row 2:" not in text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("isl,osl\n1,2\n", "lacks arrival"),
        ("arrival,isl,osl\n", "no row"),
        ("", "nothing"),
        ("arrival,isl,osl,cached\n0,10,1,10\n", "row 2"),
        ("arrival,isl,osl\n0,10\n", "row 2"),
        ('arrival,isl,osl\n0,10,1\n0,"10,1\n', "row 3"),
        ("[" * 100_000, "nested too deeply"),
        ("arrival,isl,osl\n31.12.2025,10,1\n", "is not a number, or a date with a time"),
        # aiperf's sessions: https://github.com/ai-dynamo/aiperf, docs on traces with turns
        (
            '{"session_id": "a", "timestamp": 0, "input_length": 100, "output_length": 10}\n'
            '{"session_id": "a", "delay": 1500, "input_length": 200, "output_length": 20}\n',
            "1 of 2 requests wait .* --users N --think 1500ms --isl 150 --osl 15",
        ),
        (
            '{"id": "a", "requests": [{"t": 0.0, "in": 6, "out": 1, "api_time": 1.5}]}\n'
            '{"id": "b", "requests": [{"t": 0.0, "in": 6, "out": 1, "api_time": 1.5}]}\n',
            "each session counts its time from its own begin",
        ),
        # Dynamo's agentic form of Mooncake's
        (
            '{"schema": "dynamo.agentic_mooncake"}\n{"not_before_ms": 0, "input_length": 6, '
            '"output_length": 1, "dependencies": [{"trigger": "completion"}]}\n',
            "its requests wait for each other",
        ),
        ("arrival,isl,osl,count\n0,10,1,0\n", "count 0 is not allowed"),
        # ShareGPT, and a custom data set of vLLM
        ('[{"id": "a", "conversations": [{"from": "human", "value": "x"}]}]', "tokenizer and give"),
        ('{"prompt": "What?", "output_tokens": 128}\n', r"texts \(prompt\), not their lengths"),
    ],
)
def test_traces_that_cannot_be_read(text, says):
    with pytest.raises(ValueError, match=says):
        traffic.read_trace(text)


def test_rows_of_no_request_are_left_out_and_told():
    """Dynamo's traces have other events between."""
    text = '{"event": "payload", "id": 1}\n{"arrival": 2, "isl": 6, "osl": 1}\n'
    with pytest.warns(UserWarning, match="left out are rows of no request: 1"):
        assert traffic.read_trace(text).prompt == 6


def test_a_row_of_a_trace_may_stand_for_several_requests():
    """Of such a row one alone was read."""
    read = traffic.read_trace("arrival_time,prompt_len,output_len,count\n0,10,5,2\n0.5,20,8,\n")
    np.testing.assert_array_equal(read.arrival, [0.0, 0.0, 0.5])
    np.testing.assert_array_equal(read.prompt, [10.0, 10.0, 20.0])


def test_a_trace_is_sorted_and_begins_at_zero():
    read = traffic.read_trace('timestamp,input_tokens,output_tokens\n9,5,2\n\n4,"1,024",3\n')
    np.testing.assert_array_equal(read.arrival, [0.0, 5.0])
    np.testing.assert_array_equal(read.prompt, [1024.0, 5.0])


@pytest.mark.parametrize(
    "text",
    [
        # https://github.com/Azure/AzurePublicDataset, AzureLLMInferenceTrace_conv.csv
        "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:15:46.6805900,374,44\r\n"
        "2023-11-16 18:15:50.9951690,396,109\r\n",
        # https://github.com/HPMLL/BurstGPT
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "5,ChatGPT,374,44,418,Conversation log\n9.314579,ChatGPT,396,109,505,Conversation log\n",
        # https://github.com/kvcache-ai/Mooncake, FAST25-release/traces
        '{"timestamp": 27482, "input_length": 374, "output_length": 44, "hash_ids": [46, 47]}\n'
        '{"timestamp": 31796.579, "input_length": 396, "output_length": 109, "hash_ids": [46]}\n',
        # https://github.com/alibaba-edu/qwen-bailian-usagetraces-anon: seconds
        '{"chat_id": 1, "timestamp": 61.0, "input_length": 374, "output_length": 44, '
        '"hash_ids": [1]}\n{"chat_id": 2, "timestamp": 65.314579, "input_length": 396, '
        '"output_length": 109, "hash_ids": [1]}\n',
        # https://github.com/Mutinifni/splitwise-sim
        "request_id,request_type,arrival_timestamp,batch_size,prompt_size,token_size\n"
        "0,2,0.0,1,374,44\n1,2,4.314579,1,396,109\n",
        "timestamp_ms,isl,osl\n0,374,44\n4314.579,396,109\n",
        '[{"arrival": 0, "isl": 374, "osl": 44},\n {"arrival": 4.314579, "isl": 396, "osl": 109}]',
        '{\n "requests": [{"arrival": 0, "isl": 374, "osl": 44},\n'
        '  {"arrival": 4.314579, "isl": 396, "osl": 109}]\n}',
        # What people export: spreadsheets, remarks, clocks of other units, logs of gateways.
        "sep=;\narrival;isl;osl\n0;374;44\n4,314579;396;109\n",
        "\ufeff# of Monday\nArrival Time (s)\tprompt_len\tgen_len\n0\t374\t44\n"
        "4.314579\t396\t109\n",
        "created_at,input_tokens,output_tokens\n2025-01-01T00:00:00Z,374,44\n"
        "2025-01-01T00:00:04.314579Z,396,109\n",
        "start_time,input_len,output_len\n2025/01/01 10:00:00,374,44\n"
        "2025/01/01 10:00:04.314579,396,109",
        "timestamp,prompt_tokens,completion_tokens\n1700000000000,374,44\n1700000004314.579,396,109\n",
        "timestamp_ns,prompt_tokens,completion_tokens\n0,374,44\n4314579000,396,109\n",
        '{"created": 1700000000, "usage": {"prompt_tokens": 374, "completion_tokens": 44}}\n'
        '{"created": 1700000004.314579, "usage": {"prompt_tokens": 396, "completion_tokens": 109}}',
        "createdAt,promptTokens,completionTokens\n1700000000,374,44\n1700000004.314579,396,109\n",
        "startTimeMs,inputTokens,outputTokens\n0,374,44\n4314.579,396,109\n",
        # OpenTelemetry's conventions
        "startTimeUnixNano,gen_ai.usage.input_tokens,gen_ai.usage.output_tokens\n"
        "1700000000000000000,374,44\n1700000004314579000,396,109\n",
        '{"ts": 1, "input_tokens": 374, "output_tokens": 44}\n'
        '{"ts": 5.314579, "input_tokens": 396, "output_tokens": 109}',
        # https://github.com/vllm-project/aibrix, benchmarks/generator: milliseconds
        '{"timestamp": 0, "requests": [{"prompt": "a", "prompt_length": 374, '
        '"output_length": 44}]}\n{"timestamp": 4314.579, "requests": [{"prompt": "b", '
        '"prompt_length": 396, "output_length": 109}]}',
        # https://github.com/casys-kaist/LLMServingSim, dataset; ServeGen; agents' plays
        '{"input_toks": 374, "output_toks": 44, "arrival_time_ns": 4059740, "input_ids": [1]}\n'
        '{"input_toks": 396, "output_toks": 109, "arrival_time_ns": 4318638740}',
        '{"t": 0.0, "in": 374, "out": 44}\n{"t": 4.314579, "in": 396, "out": 109}',
        '{"not_before_ms": 100, "input_length": 374, "output_length": 44}\n'
        '{"not_before_ms": 4414.579, "input_length": 396, "output_length": 109}',
        # aiperf's profile_export.jsonl; Dynamo's dynamo.request.trace.v1
        '{"metadata": {"request_start_ns": 1700000000000000000}, "metrics": {'
        '"input_sequence_length": {"value": 374, "unit": "tokens"}, '
        '"output_sequence_length": {"value": 44, "unit": "tokens"}}}\n'
        '{"metadata": {"request_start_ns": 1700000004314579000}, "metrics": {'
        '"input_sequence_length": {"value": 396, "unit": "tokens"}, '
        '"output_sequence_length": {"value": 109, "unit": "tokens"}}}',
        '{"request": {"request_received_ms": 1000, "output_tokens": 44, '
        '"replay": {"input_length": 374}}}\n{"request": {"request_received_ms": 5314.579, '
        '"output_tokens": 109, "replay": {"input_length": 396}}}',
        # Sessions whose turns have a time each, and messages that are no turns.
        '{"id": "a", "turns": [{"timestamp_ms": 0, "input_length": 374, "output_length": 44},'
        ' {"timestamp_ms": 4314.579, "input_length": 396, "output_length": 109}]}',
        '{"arrival": 0, "isl": 374, "osl": 44, "messages": [{"role": "a"}, {"role": "b"}]}\n'
        '{"arrival": 4.314579, "isl": 396, "osl": 109, "cached": 9, "messages": [{"a": "b"}]}',
    ],
)
def test_published_traces(text):
    read = traffic.read_trace(text)
    np.testing.assert_allclose(read.arrival, [0.0, 4.314579], rtol=1e-6)
    np.testing.assert_array_equal(read.prompt, [374, 396])
    np.testing.assert_array_equal(read.output, [44, 109])


@pytest.mark.parametrize(
    ("text", "gap"),
    [
        ("timestamp,input_length,output_length\n1,374,44\n5,396,109\n", 4.0),
        (
            '{"timestamp": 1.25, "input_length": 374, "output_length": 44}\n'
            '{"timestamp": 5.25, "input_length": 396, "output_length": 109}\n',
            4.0,
        ),
        (
            '{"timestamp": 1.25, "input_length": 374, "output_length": 44}\n'
            '{"timestamp": 95.5, "input_length": 396, "output_length": 109}\n',
            94.25,
        ),
        (  # as aiperf takes it
            '{"timestamp": 27482, "input_length": 374, "output_length": 44}\n'
            '{"timestamp": 31796.579, "input_length": 396, "output_length": 109}\n',
            4314.579,
        ),
    ],
)
def test_a_unit_that_the_form_of_a_table_tells_is_said(text, gap):
    """Seconds may be meant by a CSV, by parts of one, and by requests that come thick and fast."""
    with pytest.warns(
        UserWarning, match="counts in milliseconds, as in Mooncake's traces; call it"
    ):
        assert traffic.read_trace(text).arrival[1] == pytest.approx(gap / 1000)
    own = traffic.read_trace(text.replace("timestamp", "timestamp_s"))
    assert own.arrival[1] == pytest.approx(gap)


def test_cached_tokens_below_the_details_of_a_prompt():
    """OpenAI's usage; they were not read."""
    usage = {"prompt_tokens": 812, "completion_tokens": 54}
    details = {"prompt_tokens_details": {"cached_tokens": 512}}
    read = traffic.read_trace(json.dumps({"created": 1713268801, "usage": usage | details}))
    np.testing.assert_array_equal(read.cached, [512])


def test_requests_of_burstgpt_that_failed_are_left_out():
    text = "Timestamp,Request tokens,Response tokens\n5,3,4\n6,3,0\n7,3,4\n"
    with pytest.warns(UserWarning, match="1 requests without an answer are left out"):
        read = traffic.read_trace(text)
    np.testing.assert_array_equal(read.arrival, [0.0, 2.0])


def test_a_trace_of_json_that_is_cut_off():
    with pytest.raises(ValueError, match="row 2: not JSON"):
        traffic.read_trace('{"timestamp": 0, "input_length": 3, "output_length": 4}\n{"times')


@pytest.mark.parametrize("spec", ["0", "5-2", "abc", "lognormal:10", "-3", "1e400"])
def test_bad_lengths(spec):
    with pytest.raises(ValueError, match="length"):
        traffic.closed_loop(1, Demand(spec, 1, requests=5))


def test_a_range_has_both_its_ends():
    drawn = traffic.draw_lengths("1-3", 100, np.random.default_rng(0))
    assert set(drawn) == {1.0, 2.0, 3.0}
    assert set(traffic.draw_lengths("7-7", 3, np.random.default_rng(0))) == {7.0}


def test_all_but_the_last_token_of_a_prompt_may_be_cached():
    cached = [traffic.open_loop(1.0, Demand(10, 1, x, 2)).cached for x in (0.0, 0.55, 0.9, 1.0)]
    np.testing.assert_array_equal(cached, [[0.0] * 2, [5.0] * 2, [9.0] * 2, [9.0] * 2])


def test_quantiles_need_requests():
    assert needed_for(0.9) == 100
    assert needed_for(0.99) == 1000


def test_a_request_beyond_the_cache_is_refused():
    with pytest.raises(ValueError, match="longest request"):
        outcome(traffic.closed_loop(1, Demand(900_000, 10, requests=5)))


@pytest.mark.parametrize(
    ("model", "dp", "budget"), [("deepseek-v3", 8, 2048), ("deepseek-v3", 1, 16_384),
                                ("llama-3.1-8b", 8, 16_384)],
)  # fmt: skip
def test_replicas_that_share_experts_divide_sglangs_budget(model, dp, budget):
    """Copies of a dense model, and engines whose budget is of a replica, do not."""
    one = records(model, "b200-sxm", dp=dp, ep=dp, tp=8 // dp)
    work = traffic.closed_loop(2, Demand(500, 20, requests=4))
    for engine, expected in (("sglang", budget), ("vllm", 8192)):
        rules = default_scheduler(engine, 192e9)
        assert serving.deploy(one, PHYSICAL, rules, work).scheduler.budget == expected


def test_a_size_divides_sglangs_budget():
    """A budget of 8 times as much, of 8 replicas, is what a budget of each would be."""
    problem = qs.Problem("mixtral-8x7b", "h100-sxm", axes={"dp": [8], "tp": [1], "pp": [1]})
    asked = {"users": 8, "isl": 4000, "osl": 20, "quantile": 0.5, "replica_gpus": [8]}
    ways = [{"budget": 4096, "divided": 1}, {"budget": 512, "divided": 0}, {"budget": 4096}]
    found = [sizing.size(problem, scheduler=way, **asked).rows()[0] for way in ways]
    assert found[0]["ttft_at_quantile"] == found[1]["ttft_at_quantile"]
    assert found[0]["ttft_at_quantile"] > found[2]["ttft_at_quantile"]


def test_rules_out_of_range_are_all_told():
    with pytest.raises(ValueError, match="budget") as told:
        check_scheduler(Scheduler(budget=0.0, mixed=0.5, reserve=2.0))
    assert all(name in str(told.value) for name in ("budget", "mixed", "reserve"))


ENDS = [("budget", 1.0, 0.5), ("mixed", 1.0, 0.5), ("reserve", 0.0, -0.1), ("reserve", 1.0, 1.1)]


@pytest.mark.parametrize(
    ("name", "end", "beyond"), [*ENDS, ("frontend", 0.0, -1e-6), ("stream_steps", 0.0, -1.0)]
)
def test_the_ends_of_a_rule_are_allowed_and_nothing_beyond(name, end, beyond):
    check_scheduler(dataclasses.replace(Scheduler(), **{name: end}))
    with pytest.raises(ValueError, match=rf"^scheduler:\n  {name}: [^\n]*$"):
        check_scheduler(dataclasses.replace(Scheduler(), **{name: beyond}))


def test_a_trace_may_be_a_data_frame_and_nothing_else():
    """A list was "expected str, bytes or os.PathLike object, not list"."""
    rows = [{"arrival": 0.1 * k, "isl": 500, "osl": 20} for k in range(30)]
    one = qs.simulate(ONE, Partition(), trace=pd.DataFrame(rows))
    text = "arrival,isl,osl\n" + "".join(f"{0.1 * k},500,20\n" for k in range(30))
    assert one.rows() == qs.simulate(ONE, Partition(), trace=text).rows()
    with pytest.raises(ValueError, match=r"^trace: a list was given; give a CSV file, its text or"):
        qs.simulate(ONE, Partition(), trace=rows)


def test_targets_are_checked():
    with pytest.raises(ValueError, match="users, rate: both are given"):
        qs.size(ONE, users=1, rate=1, isl=5, osl=5)
    with pytest.raises(ValueError, match=r"size:\n  ttft: 0 is .*\n  quantile 1 is not"):
        qs.size(ONE, users=1, isl=5, osl=5, ttft=0, quantile=1)
    with pytest.raises(ValueError, match="tpot: answers of one token have no time between"):
        qs.size(ONE, users=1, isl=5, osl=1, ttft=1, tpot=0.03)


# The engines' rules.
def test_rules_that_are_not_given_cost_nothing():
    rules = Scheduler()
    assert (rules.reserve, rules.frontend, rules.stream_steps) == (0.0, 0.0, 0.0)


def test_defaults_of_the_engines():
    assert default_scheduler("vllm", 80 * GIB).budget == 8192
    assert default_scheduler("vllm", 80 * GIB, "a100-80g").budget == 2048
    assert default_scheduler("vllm", 24 * GIB).sequences == 256
    assert default_scheduler("sglang", 141 * GIB).budget == 8192
    assert default_scheduler("sglang", 192 * GIB).budget == 16_384
    assert default_scheduler("sglang", 80 * GIB).mixed == 0
    assert default_scheduler("trtllm", 80 * GIB).reserve == 1
    for rules in (load_schedulers()[engine] for engine in ENGINES):
        assert rules["source"]
        assert len(rules["budget"]) == len(rules["sequences"]) == len(rules["below"]) + 1
    with pytest.raises(ValueError, match="unknown engine"):
        default_scheduler("ollama", 80 * GIB)


# The verbs.
def call(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


SIMULATE = ("simulate", "llama-3.1-8b", "--hardware", "h100-sxm", "--requests", 60)


def test_simulate_prints_and_writes(tmp_path):
    words = (*SIMULATE, "--users", "1,4", "--isl", 500, "--osl", 20, "--out", tmp_path / "o")
    done = call(*words)
    assert done.exit_code == 0, done.output
    assert "at 4 users: first token after" in done.output
    rows = json.loads((tmp_path / "o" / "result.json").read_text())["loads"]
    assert [row["load"] for row in rows] == [1.0, 4.0]
    assert (tmp_path / "o" / "requests.csv").read_text().count("\n") == 121


def test_simulate_reads_a_trace(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("arrival,isl,osl\n0,100,10\n1,200,10\n")
    done = call(*SIMULATE, "--trace", path, "--format", "json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["loads"][0]["measured_requests"] == 2
    for data in (gzip.compress(path.read_bytes()), path.read_text().encode("utf-16")):
        path.write_bytes(data)
        again = json.loads(call(*SIMULATE, "--trace", path, "--format", "json").output)
        assert again["loads"] == json.loads(done.output)["loads"]
        path.write_text("arrival,isl,osl\n0,100,10\n1,200,10\n")
    path.write_text(TRACE)
    done = call(*SIMULATE, "--trace", path)
    assert done.exit_code == 2
    assert "row 3" in done.output
    path.write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in call(*SIMULATE, "--trace", path).output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "exactly one of"),
        (("--users", 4), "isl and osl"),
        (("--users", 4, "--rate", 1, "--isl", 5, "--osl", 5), "exactly one of"),
        (("--users", 4, "--isl", "x", "--osl", 5), "length"),
        (("--users", 4, "--isl", 5, "--osl", 5, "--tp", 3), "tp"),
        (("--users", 4, "--isl", 5, "--osl", 5, "--prefix-hit-rate", 1.5), "prefix_hit_rate"),
        (("--users", 4, "--isl", 5, "--osl", 5, "--budget", 0.5), "budget"),
        (("--users", 4, "--isl", 900_000, "--osl", 5), "longest request"),
    ],
)
def test_mistakes_of_simulate(words, says):
    done = call(*SIMULATE, *words)
    assert done.exit_code == 2
    assert says in done.output
    assert "Traceback" not in done.output


SIZE = ("size", "llama-3.1-8b", "--hardware", "h100-sxm", "--isl", 1000, "--osl", 100)


def test_size_prints_and_writes(tmp_path):
    words = (*SIZE, "--users", 20, "--tpot", "20ms", "--quantile", 0.5, "--replica-gpus", 1)
    done = call(*words, "--out", tmp_path / "o")
    assert done.exit_code == 0, done.output
    (record,) = json.loads((tmp_path / "o" / "result.json").read_text())["rows"]
    assert f"{record['gpus']} GPU" in done.output
    assert record["usd_per_million_tokens"] > 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--tpot", "20ms"), "users, rate: none is given; give one of them"),
        (("--users", 0), "users"),
        (("--users", 2.5), "whole number"),
        (("--users", 2, "--quantile", 2), "quantile"),
        (("--users", 2, "--tp", 0), "positive"),
        (("--users", 1e9), "1,000,000,000 may all wait for one replica where TTFT has no limit"),
    ],
)
def test_mistakes_of_size(words, says):
    done = call(*SIZE, *words)
    assert done.exit_code == 2
    assert says in done.output


def test_size_says_what_is_out_of_reach():
    done = call(*SIZE, "--users", 2, "--tpot", "1us", "--quantile", 0.5, "--replica-gpus", 1)
    assert done.exit_code == 0
    assert "no number of GPUs" in done.output


# Derivatives.
def test_elasticities_are_those_of_finite_differences():
    one, work = records(), traffic.closed_loop(6, Demand(400, 40, requests=24))
    fields = ("hbm_bw", "flops_bf16", "layer_overhead")
    found = slopes.elasticities(one, PHYSICAL, RULES, work, fields)

    def mean_e2e(name, factor):
        value = float(getattr(one.hardware, name)) * factor
        changed = one._replace(hardware=dataclasses.replace(one.hardware, **{name: value}))
        seen = serving.simulate([serving.deploy(changed, PHYSICAL, RULES, work)])[0]
        return float(np.mean(seen.finish - seen.arrival))

    step = 1e-5
    for name in fields:
        up, down = mean_e2e(name, 1 + step), mean_e2e(name, 1 - step)
        difference = (math.log(up) - math.log(down)) / (2 * step)
        np.testing.assert_allclose(found["e2e"][name], difference, rtol=1e-4, atol=1e-8)
    assert found["e2e"]["hbm_bw"] < 0 < found["requests_per_s"]["hbm_bw"]
