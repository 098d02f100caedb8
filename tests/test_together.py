"""One batch of many contexts: its terms are the means of those of its sequences."""

import dataclasses

import jax
import numpy as np
import pytest
from serving_cases import GPU
from tolerances import EXACT

from qsjax import catalog
from qsjax.cost.decode import decode_step
from qsjax.cost.laws import memory
from qsjax.grid.batches import ladder
from qsjax.grid.cells import as_rows, take
from qsjax.grid.limits import Limits
from qsjax.grid.parameters import Inputs
from qsjax.grid.problem import Problem
from qsjax.numerics.numpy_backend import on_host
from qsjax.questions.mix import Request, mix
from qsjax.questions.mix.averages import averaged, mean_of, mean_of_blocks
from qsjax.records.specs import PAPER, PHYSICAL, Partition, Records, Workload

REQUESTS = [Request(60.0, 4.0), Request(900.0, 3.0), Request(3000.0, 2.0), Request(50_000.0, 1.0)]
MODELS = ("gpt-oss-120b", "deepseek-v3.2", "qwen3-next-80b-a3b", "deepseek-v3", "mixtral-8x7b")
WORK = Workload(context=1.0, batch=6.0)
SPLIT = Partition(tp=2.0, dp=2.0, ep=4.0)
step = on_host(decode_step)


def terms(model, workload, convention):
    """Every term of a step, by its place in the record."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(
        step(Records(model, GPU, SPLIT, workload), convention)
    )
    return {jax.tree_util.keystr(path): float(np.asarray(x)) for path, x in leaves}


def mean_records(model, workload, requests=None):
    """The model and workload whose single context stands for the requests."""
    zero = np.zeros(())
    row = as_rows(Inputs(model, GPU, workload, PHYSICAL, zero, zero), 1)
    found = take(averaged(row, requests or REQUESTS), 0)
    return found.model, found.workload


LINEAR = (".hbm.kv", ".compute.attention", ".capacity.kv_per_sequence")


@pytest.mark.parametrize("convention", [PHYSICAL, PAPER], ids=["physical", "paper"])
@pytest.mark.parametrize("name", MODELS)
def test_a_batch_costs_the_mean_of_its_sequences(name, convention):
    model = catalog.model(name)
    share = np.array([r.tokens for r in REQUESTS])
    apart = [
        terms(model, dataclasses.replace(WORK, context=r.context), convention) for r in REQUESTS
    ]
    spec, work = mean_records(model, WORK)
    whole = terms(spec, dataclasses.replace(work, batch=WORK.batch), convention)
    for term in LINEAR:
        mean = np.average([found[term] for found in apart], weights=share)
        assert whole[term] == pytest.approx(mean, rel=EXACT), term
    fixed = [t for t in whole if len({found[t] for found in apart}) == 1]
    assert len(fixed) > 20
    for term in fixed:
        assert whole[term] == apart[0][term], term


def test_the_mean_context_alone_would_be_wrong_where_terms_saturate():
    for name in ("gpt-oss-120b", "deepseek-v3.2"):
        model = catalog.model(name)
        spec, work = mean_records(model, WORK)
        plain = dataclasses.replace(WORK, context=mean_of(REQUESTS))
        right = terms(spec, dataclasses.replace(work, batch=WORK.batch), PHYSICAL)
        wrong = terms(model, plain, PHYSICAL)
        assert wrong[".hbm.kv"] > 1.0001 * right[".hbm.kv"]


@pytest.mark.parametrize("limit", [0.0, 50.0, 120.0, 160.0, 400.0, np.inf])
def test_growing_contexts_are_averaged_over_their_growth(limit):
    requests = [Request(150.0, 2.0, output=100.0), Request(300.0, 1.0, output=40.0)]
    steps = (np.arange(100_000) + 0.5) / 100_000
    grown = [r.context + r.output * (steps - 0.5) for r in requests]
    want = np.average([np.minimum(x, limit).mean() for x in grown], weights=[2, 1])
    assert mean_of(requests, limit) == pytest.approx(want, rel=1e-6)
    blocks = np.average([16 * np.ceil(x / 16).mean() for x in grown], weights=[2, 1])
    assert mean_of_blocks(requests, 16.0) == pytest.approx(blocks, rel=1e-4)


def test_cache_is_held_in_whole_blocks():
    model, block = catalog.model("deepseek-v3"), 64.0
    work = dataclasses.replace(WORK, kv_block=block)
    spec, mean = mean_records(model, work)

    @on_host
    def held(model, workload, convention):
        return memory.kv_bytes_per_sequence(model, SPLIT, workload, convention)

    apart = [held(model, dataclasses.replace(work, context=r.context), PHYSICAL) for r in REQUESTS]
    want = np.average(apart, weights=[r.tokens for r in REQUESTS])
    assert held(spec, mean, PHYSICAL) == pytest.approx(want, rel=EXACT)


def both(name, requests, **limits):
    """The mixture of a model, with one batch of all lengths."""
    limit, work = Limits(**limits), Workload(context=1.0)
    asked = Problem(catalog.model(name), GPU, gpus=8, workload=work, limits=limit)
    return mix(asked, requests, together=True).mixtures[0]


def solve(name, requests, **limits):
    return both(name, requests, **limits).together


def test_one_length_is_the_mix_of_one_class():
    found = both("gpt-oss-120b", [Request(30_000.0, 1.0)])
    assert found.together.design == found.design
    assert found.together.batch == found.classes[0].batch
    assert found.together.step.tokens_per_s_per_gpu == pytest.approx(found.rate, rel=EXACT)


def test_the_batch_is_the_best_of_all_for_its_split():
    found = solve("gpt-oss-120b", REQUESTS)
    spec, work = mean_records(catalog.model("gpt-oss-120b"), Workload(context=1.0))
    most = float(found.step.capacity.max_batch)
    tries = dataclasses.replace(work, batch=ladder(most))
    degrees = {name: float(found.design[name]) for name in ("tp", "ep", "pp", "dp", "kvp")}
    split = Partition(**degrees)
    assert found.design["kv_mode"] == "none"
    rates = step(Records(spec, GPU, split, tries), PHYSICAL).tokens_per_s_per_gpu
    assert float(found.step.tokens_per_s_per_gpu) == pytest.approx(rates.max(), rel=EXACT)
    assert found.batch <= most
    kept = solve("gpt-oss-120b", REQUESTS, max_tpot=0.9 * float(found.step.tpot))
    assert float(kept.step.tpot) <= 0.9 * float(found.step.tpot)


def test_a_given_batch_is_kept_and_several_are_refused():
    given = [request._replace(batch=4.0) for request in REQUESTS]
    assert solve("gpt-oss-120b", given).batch == 4
    with pytest.raises(ValueError, match=r"several sizes at once \(4, 8\)"):
        solve("gpt-oss-120b", [*given, Request(10.0, 1.0, 8.0)])
    with pytest.raises(ValueError, match="the same batch, or none"):
        solve("gpt-oss-120b", [*given, Request(10.0, 1.0)])


def test_the_longest_request_must_fit_alone():
    long = Request(3e6, 1e-6)
    one = solve("mixtral-8x7b", [long])
    mixed = solve("mixtral-8x7b", [Request(1000.0, 1.0), long])
    free = solve("mixtral-8x7b", [Request(1000.0 + 3.0, 1.0)])
    assert one.design
    assert float(mixed.step.tokens_per_s_per_gpu) < float(free.step.tokens_per_s_per_gpu)
    growing = solve("mixtral-8x7b", [Request(1000.0, 1.0), Request(2e6, 1e-6, output=2e6)])
    assert growing.design == mixed.design
    assert solve("mixtral-8x7b", [Request(1000.0, 1.0), Request(3e8, 1e-9)]).step is None


def test_where_nothing_runs_there_is_no_design():
    found = solve("gpt-oss-120b", [Request(2.0**39, 1.0)])
    assert (found.step, found.design) == (None, {})
    assert found.context == 2.0**39
