"""Prefixes and tiers: the law against an oracle and by hand, break-evens, bad input."""

import dataclasses
import json
import random

import jax
import numpy as np
import oracle
import pytest
from click.testing import CliRunner
from hosted import hosted
from test_prefill import DENSE, HARDWARE, PROMPT, WORKLOAD, step
from tolerances import EXACT, FINITE_DIFFERENCE

import qsjax as qs
from qsjax import Partition, Problem
from qsjax.cli import cli
from qsjax.cost import prefix
from qsjax.cost.decode import decode_step
from qsjax.cost.disaggregation import companion
from qsjax.cost.prefill import Prompts, prefill_step
from qsjax.cost.prefix import PLACES, TIERS, Reuse, exposed_load
from qsjax.engines import read
from qsjax.engines.rules import flags_of
from qsjax.grid.prefixes import columns, designs_of, interval_of, reuse_of, turns
from qsjax.records.specs import PHYSICAL, Records

prefix_costs = hosted(prefix.prefix_costs)
LLAMA = Problem("llama-3.1-70b", "h100-sxm", gpus=4)
LONG = {"isl": 16384, "prefix_hit_rate": 0.8, "reuse_interval": 30.0}


def records(model="llama-3.1-70b", gpu="h100-sxm", batch=8.0, **degrees):
    work = dataclasses.replace(qs.workload(model), context=1.0, batch=batch)
    plain = Records(qs.model(model), qs.hardware(gpu), Partition(**degrees), work)
    return jax.tree.map(lambda x: np.asarray(x, float), plain)


def design(problem=LLAMA, partition=None, **requests):
    return designs_of(problem, reuse_of(LONG | requests), partition)[0]


def rate(column, name):
    return column[name]["tokens_per_s_per_gpu"]


# The law


@pytest.mark.parametrize("load", [0.0, 0.2, 1.0, 7.0])
def test_a_load_layer_by_layer_is_a_pipeline(load):
    expected = oracle.loaded_beside(load, 1.0, 40)
    assert float(exposed_load(load, 1.0, 40.0)) == pytest.approx(expected, rel=EXACT, abs=1e-15)


def test_a_cached_prefix_by_hand():
    full, cached = step(tp=4.0), 1024.0
    rest = prefill_step(
        Records(DENSE, HARDWARE, Partition(tp=4.0), WORKLOAD),
        PHYSICAL,
        Prompts(PROMPT, cached=cached),
    )
    pairs = (PROMPT**2 - cached**2) / 2
    assert float(rest.compute.attention) == pytest.approx(
        10 * 4 * 64 * 16 * pairs / 4 / (1e14 * 0.5), rel=EXACT
    )
    for phase in ("projection", "ffn"):
        ratio = float(getattr(rest.compute, phase) / getattr(full.compute, phase))
        assert ratio == pytest.approx(0.75, rel=EXACT)
    assert float(rest.compute.head) == float(full.compute.head)
    # The cache of the prompt passes the HBM whole: 2 x 4 heads x 64 x 2 B, 10 layers, over 4 GPUs.
    activations = float(full.hbm.attention) - PROMPT * 10 * 1024 / 4 / 1e12
    assert float(rest.hbm.attention) - 0.75 * activations == pytest.approx(
        PROMPT * 10 * 1024 / 4 / 1e12, rel=EXACT
    )
    assert float(rest.tokens_per_s) == pytest.approx(PROMPT / (float(rest.ttft) - 1e-3))


def test_costs_are_those_of_the_oracle():
    own, reuse = records(batch=20.0, tp=8.0), Reuse(isl=16000.0, osl=400.0, reuse_interval=900.0)
    found = prefix_costs(own, PHYSICAL, reuse)
    model, chip, part, work, _ = own
    work = dataclasses.replace(work, context=16200.0)
    decode = decode_step(Records(model, chip, part, work), PHYSICAL)
    cap = decode.capacity
    full, rest = (
        prefill_step(Records(model, chip, part, work), PHYSICAL, Prompts(16000.0, cached=x))
        for x in (0.0, 8000.0)
    )
    token = 400 * float(decode.tpot) / 20
    kept = 80 * 2 * 128 * 2 * 8000  # of one of 8 KV heads on each GPU, in 16 bits
    seconds = [16000 / float(x.tokens_per_s) for x in (full, rest)]
    for name, cost in found.items():
        if name == "recompute":
            continue
        room, extra = float(cap.usable - cap.weights - 20 * cap.kv_per_sequence), 0.0
        if name in TIERS:
            room = float(getattr(chip, f"{name}_bytes"))
            load = kept / (0.85 * float(getattr(chip, f"{name}_bw")))
            extra = float(getattr(chip, f"{name}_latency"))
            extra += oracle.loaded_beside(load, seconds[1], 80)
        hit, miss = token + seconds[1] + extra, token + seconds[0]
        mean, share = oracle.prefix_place(hit, miss, room, kept, 900.0)
        assert float(cost.seconds) == pytest.approx(mean, rel=1e-9), name
        assert float(cost.found) == pytest.approx(share, rel=1e-9), name
        assert float(cost.prefixes) == pytest.approx(900 / mean, rel=1e-9), name
        first = share * (float(rest.ttft) + extra) + (1 - share) * float(full.ttft)
        assert float(cost.ttft) == pytest.approx(first, rel=1e-9), name
        assert float(cost.tokens_per_s_per_gpu) == pytest.approx(400 / mean / 8, rel=1e-9), name
    assert float(found["hbm"].found) < float(found["host"].found) < float(found["ssd"].found) == 1


@pytest.mark.parametrize(
    ("hit", "room"), [(0.5, 3.0), (0.5, 80.0), (0.9, 30.0), (1.4, 30.0), (1.4, 900.0), (0.5, 0.0)]
)
def test_the_share_found_is_a_fixed_point_also_where_a_load_does_not_pay(hit, room):
    from qsjax.cost.prefix import _shared

    found = _shared(*(np.asarray(x) for x in (hit, 1.0, room, 2.0)), 20.0)
    assert [float(x) for x in found] == pytest.approx(
        oracle.prefix_place(hit, 1.0, room, 2.0, 20.0), rel=1e-9, abs=1e-12
    )


def test_of_prefixes_asked_for_by_chance_an_lru_cache_finds_what_fits():
    chance, kept, found, asked = random.Random(1), {}, 0, 40_000
    for _ in range(asked):
        prefix = chance.randrange(200)
        found += prefix in kept
        kept.pop(prefix, None)
        kept[prefix] = True
        if len(kept) > 50:
            del kept[next(iter(kept))]
    assert found / asked == pytest.approx(50 / 200, rel=0.03)


# Limits


def test_a_hit_rate_of_0_changes_nothing_to_the_bit():
    own = columns(design(prefix_hit_rate=0.0))
    for name, cost in own.items():
        for key in ("tokens_per_s_per_gpu", "ttft", "batch", "seconds"):
            assert cost[key] == own["recompute"][key], (name, key)
    given = records(batch=32.0, tp=8.0)
    work = dataclasses.replace(given.workload, context=4096.0)
    given = given._replace(workload=work)
    decode = decode_step(given._replace(gpus=None), PHYSICAL)
    plain, zero = (
        companion(given, decode, PHYSICAL, 4000.0, 200.0, **x) for x in ({}, {"cached": 0.0})
    )
    assert plain == zero
    # Of prompts that fill a step: where prefill is apart, shorter ones are read together.
    again = prefix_costs(given, PHYSICAL, Reuse(isl=9000.0, osl=192.0))["recompute"]
    work = dataclasses.replace(work, context=9096.0)
    long = given._replace(workload=work)
    decode = decode_step(long._replace(gpus=None), PHYSICAL)
    served = companion(long, decode, PHYSICAL, 9000.0, 192.0).tokens_per_s_per_gpu_disaggregated
    assert float(again.tokens_per_s_per_gpu) == pytest.approx(served, rel=EXACT)


def test_a_hit_rate_of_1_leaves_the_last_token_to_compute():
    own = records(batch=8.0, tp=8.0)
    found = prefix_costs(own, PHYSICAL, Reuse(isl=4096.0, prefix_hit_rate=1.0))["hbm"]
    rest = prefill_step(own, PHYSICAL, Prompts(4096.0, cached=4095.0))
    assert float(found.ttft) == float(rest.ttft)


def test_an_endless_fast_tier_has_no_load_and_costs_no_room():
    chip = {"host_bytes": 1e24, "host_bw": 1e24, "host_latency": 0.0}
    own = records(batch=8.0, tp=8.0)
    own = own._replace(hardware=dataclasses.replace(own.hardware, **chip))
    found = prefix_costs(own, PHYSICAL, Reuse(reuse_interval=1.0))
    assert float(found["host"].seconds) == pytest.approx(float(found["hbm"].seconds), rel=1e-12)
    assert float(found["host"].found) == 1.0


def test_costs_move_one_way():
    own, times = design(), np.geomspace(0.01, 1e7, 60)
    by_time = columns(own, {"reuse_interval": times})
    for name in PLACES:
        assert np.all(np.diff(rate(by_time, name)) <= 1e-9 * rate(by_time, name)[1:]), name
    assert np.all(np.diff(by_time["hbm"]["batch"][times < 1.0]) <= 0)
    for field, sign in (("host_bw", 1), ("host_bytes", 1), ("host_latency", -1)):
        now = float(getattr(own.records.hardware, field))
        moved = rate(columns(own, {field: now * np.geomspace(1e-3, 1e3, 60)}), "host")
        assert np.all(sign * np.diff(moved) >= -1e-9 * moved[1:]), field
    at_once = design(reuse_interval=0.0)
    by_rate = columns(at_once, {"prefix_hit_rate": np.linspace(0.05, 1.0, 40)})
    assert np.all(np.diff(rate(by_rate, "hbm")) > 0)
    # A prefix is loaded whole, so that a slow tier gets worse where little is left to compute.
    assert np.diff(rate(by_rate, "ssd"))[-1] < 0


def test_a_tier_that_is_not_there_finds_nothing():
    found = prefix_costs(records(gpu="tpu-v6e", tp=8.0), PHYSICAL, Reuse())
    assert float(found["host"].found) == 0.0
    assert float(found["host"].seconds) == pytest.approx(float(found["recompute"].seconds))


@pytest.mark.parametrize("place", ["hbm", "host", "ssd"])
@pytest.mark.parametrize("interval", [5.0, 4000.0])
def test_slopes(place, interval):
    own = records(batch=20.0, tp=8.0)
    own = own._replace(hardware=dataclasses.replace(own.hardware, ssd_bw=np.asarray(2e8)))

    def law(hit_rate, interval, speed, room):
        fields = {f"{place}_bw": speed, f"{place}_bytes": room} if place in TIERS else {}
        chip = dataclasses.replace(own.hardware, **fields)
        reuse = Reuse(isl=16000.0, prefix_hit_rate=hit_rate, reuse_interval=interval)
        cost = prefix_costs(own._replace(hardware=chip), PHYSICAL, reuse)[place]
        return cost.seconds + cost.ttft

    at = [0.6, interval, 5e9, 4e11]
    slopes = jax.grad(law, argnums=(0, 1, 2, 3))(*at)
    for k, slope in enumerate(slopes):
        ends = [
            float(law(*(x * (1 + s * (i == k)) for i, x in enumerate(at)))) for s in (1e-6, -1e-6)
        ]
        expected = (ends[0] - ends[1]) / (2e-6 * at[k])
        assert float(slope) == pytest.approx(
            expected, rel=1e3 * FINITE_DIFFERENCE, abs=1e-9 / at[k]
        )
    assert any(float(slope) for slope in slopes)


# The question and its break-evens


def test_each_place_runs_its_best_batch():
    own = design()
    work = dataclasses.replace(own.records.workload, batch=np.array(own.batches))
    costs = prefix_costs(own.records._replace(workload=work), PHYSICAL, own.reuse)
    for name, best in columns(own).items():
        rates = np.asarray(costs[name].tokens_per_s_per_gpu)
        assert rates.shape == np.shape(own.batches)
        assert float(best["tokens_per_s_per_gpu"][0]) == pytest.approx(max(rates), rel=EXACT)
        assert float(best["batch"][0]) == own.batches[int(np.argmax(rates))]


def test_at_a_turn_two_places_are_equal_and_the_best_one_changes():
    own = design()
    for name in ("reuse_interval", "prefix_hit_rate", "host_bytes"):
        found = turns(own, name, interval_of(own, name))
        assert len(found.sides) == len(found.roots) + 1 > 1, name
        for root, before, after in zip(found.roots, found.sides, found.sides[1:], strict=False):
            at = columns(own, {name: root.value * np.array([0.999, 1.0, 1.001])})
            low, middle, high = rate(at, before) / rate(at, after)
            assert middle == pytest.approx(1.0, abs=1e-9)
            assert low > 1 > high or root.kind != "equal"


def test_the_bandwidth_that_pays_is_where_loading_equals_computing():
    for interval in (1.0, 1e5):  # all are found, or a share
        own = design(reuse_interval=interval)
        pays = float(columns(own)["host"]["pays_from"][0])
        at = columns(own, {"host_bw": pays * np.array([0.99, 1.0, 1.01])})
        ratio = rate(at, "host") / rate(at, "recompute")
        assert ratio[0] < 1 < ratio[2]
        assert ratio[1] == pytest.approx(1.0, abs=1e-12)
    # By hand: what is saved, less the latency, hides the load in all layers but one.
    rows = {row["place"]: row for row in qs.prefix_cache(LLAMA, Partition(tp=4), **LONG).rows()}
    new, full = rows["hbm"]["ttft_found"] - 50e-6, rows["recompute"]["ttft"] - 50e-6
    load = full - new - 20e-6 + new * (1 - 1 / 80)
    expected = rows["host"]["prefix_bytes"] / load / 0.85
    assert rows["host"]["pays_from"] == pytest.approx(expected, rel=1e-9)


def test_a_latency_above_what_is_saved_never_pays():
    slow = qs.hardware("h100-sxm").replace(host_latency=60.0)
    found = qs.prefix_cache(Problem("llama-3.1-70b", slow, gpus=4), **LONG)
    assert next(r for r in found.rows() if r["place"] == "host")["pays_from"] == np.inf


def test_a_place_that_finds_next_to_nothing_is_no_best_one():
    """Prefixes were "best kept in HBM, 1.00 times", where HBM finds 0.1 % of them."""
    found = qs.prefix_cache(Problem("llama-3.1-8b", "tpu-v6e", gpus=4), prefix_hit_rate=0.5)
    (best,) = (row for row in found.rows() if row["is_best"])
    assert (best["place"], best["gain"] < 1.005) == ("hbm", True)
    assert found.summary() == (
        "llama-3.1-8b on 4 tpu-v6e: no place for prefixes gains anything; "
        f"kept in HBM {100 * best['found']:.2g} % of them are found."
    )


def test_break_even_tells_the_turns_of_every_variant():
    problem = Problem("mixtral-8x7b", "h100-sxm", gpus=8, twins=[2])
    found = qs.break_even(problem, "prefix_hit_rate", **LONG | {"reuse_interval": 600.0})
    assert [row["variant"] for row in found.rows()] == ["moe", "dense"]
    assert all(set(row["sides"]) <= set(PLACES) for row in found.rows())
    assert ": prefixes are best" in found.summary()
    # In a field of a tier only that tier is compared, which was not said.
    alone = qs.break_even(problem, "host_bw", **LONG)
    assert ": without other tiers prefixes are best" in alone.summary()
    assert found.plot() is not None
    default = qs.break_even(problem, "prefix_hit_rate")
    assert default.rows()[0]["low"] == 1e-3
    assert default.rows()[0]["now"] == 0.5


def test_the_answer_names_the_best_place_and_what_it_gains():
    found = qs.prefix_cache(Problem("deepseek-v3", "h200-sxm", gpus=16, twins=[1]), isl="16k")
    rows = found.rows()
    assert [row["place"] for row in rows] == [*PLACES, *PLACES]
    for row, line in zip(
        (r for r in rows if r["is_best"]), found.summary().splitlines(), strict=True
    ):
        assert f"{row['gain']:.2f} times" in line
        assert line.count("up to") >= 1
    # 61 layers with a latent of 576 in 16 bits, on one GPU of each stage.
    assert rows[0]["prefix_bytes_per_token"] * rows[0]["pp"] == pytest.approx(61 * 576 * 2)
    assert set(found.drawings()) == {"interval", "hit-rate"}
    assert found.dataset["tokens_per_s_per_gpu"].dims == ("model", "hardware", "variant", "place")


def test_explain_computes_less_of_a_prompt():
    problem = Problem("mixtral-8x7b", "h100-sxm", gpus=8, context=4608)
    asked = {"requests": (4096, 1024)}
    plain, none, half = (
        qs.explain(problem, Partition(tp=8), **asked, **more)
        for more in ({}, {"prefix_hit_rate": 0.0}, {"prefix_hit_rate": 0.5})
    )
    assert plain.prefill == none.prefill
    assert half.prefill.ttft < 0.6 * plain.prefill.ttft
    assert half.stated.rate == plain.stated.rate  # decode reads as much cache as before
    assert "(2,048 of it cached)" in half.summary()


def test_cached_tokens_fill_no_step_but_are_looked_at():
    own = records(batch=256.0, tp=8.0)
    own = own._replace(workload=dataclasses.replace(own.workload, context=4608.0))
    decode = decode_step(own._replace(gpus=None), PHYSICAL)
    short, cached, whole = (
        companion(own, decode, PHYSICAL, prompt, 64.0, cached=seen)
        for prompt, seen in ((2048.0, 0.0), (4096.0, 2048.0), (4096.0, 0.0))
    )
    assert short.decoding_aggregated == cached.decoding_aggregated > whole.decoding_aggregated
    assert short.tpot_aggregated < cached.tpot_aggregated
    rates = [x.tokens_per_s_per_gpu_aggregated for x in (short, cached, whole)]
    assert rates[0] > rates[1] > 1.5 * rates[2]


# Bad input


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"prefix_hit_rate": 1.2}, ["prefix_hit_rate: 1.2 is not allowed", "from 0 to 1"]),
        ({"prefix_hit_rate": -0.1, "isl": 0}, ["prefix_hit_rate: -0.1", "isl: 0 is not"]),
        ({"reuse_interval": float("nan")}, ["reuse_interval: nan"]),
        ({"osl": "many"}, ["osl"]),
        ({"isl": [1024, 2048]}, ["isl: several were given"]),
        ({"tiers": ["hots"]}, ["'hots' is not a tier", "host"]),
        ({"tiers": ["ssd", "remot"]}, ["'remot' is not a tier", "remote"]),
    ],
)
def test_requests_out_of_range(given, told):
    with pytest.raises(ValueError) as error:  # noqa: PT011  # the parts are checked
        qs.prefix_cache(LLAMA, **given)
    assert all(part in str(error.value) for part in told), str(error.value)


def test_a_tier_without_capacity_says_how_to_give_it_one():
    chip = qs.hardware("h100-sxm").replace(ssd_bytes=0.0)
    with pytest.raises(ValueError, match="ssd: h100-sxm, ssd_bytes=0 has no such tier; give it "
                       "ssd_capacity_gb above 0"):  # fmt: skip
        qs.prefix_cache(Problem("llama-3.1-70b", chip, gpus=4), tiers=["host", "ssd"])
    found = qs.prefix_cache(Problem("llama-3.1-70b", chip, gpus=4))
    assert "ssd" not in {row["place"] for row in found.rows()}
    with pytest.raises(ValueError, match="tpu-v6e has no such tier"):
        qs.break_even(Problem("llama-3.1-8b", "tpu-v6e", gpus=8), "host_bw")


def test_what_does_not_count_is_refused():
    moe = Problem("mixtral-8x7b", "h100-sxm", gpus=8, context=8192)
    with pytest.raises(ValueError, match="isl: requests do not affect hbm_bw"):
        qs.break_even(moe, "hbm_bw", isl=8192)
    with pytest.raises(ValueError, match=r"reuse_intervall: is not known; .* reuse_interval"):
        qs.break_even(moe, "prefix_hit_rate", reuse_intervall=3.0)
    with pytest.raises(ValueError, match=r"prefix_hit_rate: low=0.1 and high=2"):
        qs.break_even(moe, "prefix_hit_rate", 0.1, 2.0)
    with pytest.raises(ValueError, match=r"prefix_hit_rate: low=0 and high=0.5"):
        qs.break_even(moe, "prefix_hit_rate", 0.0, 0.5)
    with pytest.raises(ValueError, match="prefix_hit_rate: of which prompts"):
        qs.explain(moe, prefix_hit_rate=0.5)
    with pytest.raises(ValueError, match=r"prefix_hit_rate: 1.5 is not allowed"):
        qs.compare(dataclasses.replace(moe, twins=[2]), requests=(10, 10), prefix_hit_rate=1.5)
    with pytest.raises(ValueError, match="no design holds a request"):
        qs.prefix_cache(Problem("llama-3.1-405b", "h100-sxm", gpus=1))


def test_the_verb():
    asked = ["prefix-cache", "llama-3.1-70b", "--hardware", "h100-sxm", "--gpus", "4"]
    done = CliRunner().invoke(cli, [*asked, "--isl", "16k", "--tiers", "host", "--format", "json"])
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert [row["place"] for row in answer["rows"]] == ["recompute", "hbm", "host"]
    assert answer["requests"]["isl"] == 16384
    wrong = CliRunner().invoke(cli, [*asked, "--prefix-hit-rate", "2"])
    assert wrong.exit_code == 2
    assert "prefix_hit_rate: 2 is not allowed" in wrong.output


def test_flags_of_prefixes_are_named_with_what_says_the_same_here():
    cached = {
        "vllm": {"--enable-prefix-caching": "none", "--kv-offloading-size": "unread"}
        | {"--cpu-offload-gb": "unread", "--swap-space": "none"},
        "sglang": {"--disable-radix-cache": "none", "--enable-hierarchical-cache": "unread"}
        | {"--hicache-ratio": "unread"},
        "trtllm": {"--kv-cache-config.enable-block-reuse": "none"}
        | {"--kv-cache-config.host-cache-size": "unread"},
    }
    for engine, flags in cached.items():
        assert {name: flags_of(engine)[name].effect for name in flags} == flags
    line = "vllm serve m -tp 8 --enable-prefix-caching --kv-offloading-size 100"
    (note,) = [x for x in read(line, is_moe=False).notes if "prefix-hit-rate" in x]
    assert "--enable-prefix-caching, --kv-offloading-size" in note
    weights = read("vllm serve m --cpu-offload-gb 20 --swap-space 4", is_moe=False).notes
    assert not any("prefix-hit-rate" in x for x in weights)  # weights, and preempted requests


# Published measurements; docs/guides/prefix-cache.md has the gaps.


def test_deepseeks_prefill_with_its_hit_rate():
    own = records("deepseek-v3", "h800-sxm", dp=32.0, ep=32.0)

    def node(share):
        new = 4096.0 * (1 - share)
        found = prefill_step(own, PHYSICAL, Prompts(4096.0, 16384.0 / new, share * 4096.0))
        return 8 * float(found.tokens_per_s_per_gpu)

    # 73,700 input tokens/s a node of 8 H800, 56.3 % of them from the cache.
    assert node(0.563) / 73_700 == pytest.approx(1.31, abs=0.02)
    assert node(0.0) / 73_700 == pytest.approx(0.60, abs=0.02)


def test_deepseeks_first_token_of_a_long_prompt():
    own = records("deepseek-v3", "h800-sxm", tp=8.0, ep=8.0)
    full, rest = (
        float(prefill_step(own, PHYSICAL, Prompts(131072.0, cached=x * 131072.0)).ttft)
        for x in (0.0, 0.98)
    )
    # 13 s to 0.5 s for a prompt of 128k that is mostly a reference; the split and share are ours.
    assert full == pytest.approx(13.0, rel=0.05)
    assert rest == pytest.approx(0.5, rel=0.15)


@pytest.mark.parametrize(
    ("length", "load", "miss", "host"),
    [(1024, 1.876e-3, 0.078, 0.057), (65536, 0.1185, 15.2, 0.272)],
)
def test_loads_on_an_h20(length, load, miss, host):
    chip = Problem("qwen3-30b-a3b", "h20-96g", gpus=1)
    given = {"isl": length, "osl": 1, "prefix_hit_rate": 1.0, "reuse_interval": 0.0}
    found = {row["place"]: row for row in qs.prefix_cache(chip, Partition(), **given).rows()}
    assert found["host"]["load_time"] == pytest.approx(load, rel=0.02)
    assert 0.9 < found["recompute"]["ttft"] / miss < 1.25
    # The front end and eager launches, 40 ms, are not counted: hits are told too fast.
    assert 0.1 < found["host"]["ttft"] / host < 0.5


def test_a_cached_token_takes_as_much_whatever_share_of_the_prompt_it_is():
    """The last token of a prompt is computed also where all of it was seen before."""
    asked = qs.Problem("llama-3.1-8b", "h100-sxm", gpus=1)
    each = [
        qs.prefix_cache(asked, isl=64, osl=8, prefix_hit_rate=rate).rows()[0] for rate in (0.5, 1.0)
    ]
    assert each[1]["prefix_bytes"] == pytest.approx(each[0]["prefix_bytes"] * 63 / 32)
    assert each[1]["prefix_bytes_per_token"] == pytest.approx(each[0]["prefix_bytes_per_token"])
