"""Every term of `decode_step` against an independent reading of the document, on random designs.

Conventions are static, so each is one compilation: a dozen are drawn, and each is evaluated on
hundreds of designs at once, legal and illegal.
"""

import dataclasses
import itertools
import operator

import jax
import numpy as np
import oracle
import pytest
from designs import log_uniform, random_designs, random_models, records, rows
from hypothesis import given
from hypothesis import strategies as st
from tolerances import CANCELLATION, EXACT

from qsjax.cost.decode import decode_step
from qsjax.cost.laws import params
from qsjax.grid.axes import make_axes
from qsjax.grid.scoring import pick_best
from qsjax.records.specs import PAPER, PHYSICAL, Convention, ModelSpec, Records
from qsjax.streaming.engine import Job
from qsjax.streaming.plan import make_plan
from qsjax.streaming.run import Outputs, sweep

DESIGNS = 300
DTYPES = ("bf16", "fp8", "fp4")
SWITCHES = {
    "expert_traffic": ("coverage", "full_pool", "all_experts", "top_k"),
    "ffn_sharding": ("stage", "tp"),
    "dense_replicas": ("whole", "sharded"),
    "bottleneck": ("per_phase", "global"),
    "scope": ("full_model", "routed_ffn"),
    "expert_time_sharding": ("ep", "none"),
    "expert_exchange": ("off_replica", "relayed", "every_token"),
    "attention_flops_over_kvp": (True, False),
    "attention_tiles": (True, False),
    "mla_cache": ("latent", "latent_over_tp", "two_latents", "keys_and_values_over_tp"),
    "mla_read": ("latent", "latent_over_tp", "two_latents", "keys_and_values_over_tp"),
    "mla_projection": ("exact", "two_d_squared"),
    "topology": ("hierarchical", "flat"),
    "startup": ("direct", "ring"),
    "expert_balance": ("even", "poisson", "skewed"),
    "activations": ("gemm_io", "none"),
    "compute_dtype": ("per_phase", "bf16"),
    "two_batch_overlap": (False, True),
}
# Name in the oracle: path in StepCost, where they differ.
PATHS = {
    "batch": "capacity.batch",
    "max_batch": "capacity.max_batch",
    "usable_bytes": "capacity.usable",
    "weights_bytes": "capacity.weights",
    "kv_bytes_per_seq": "capacity.kv_per_sequence",
    "n_gpus": "gpus",
    "t_hbm_kv": "hbm.kv",
    "t_hbm_attn_weights": "hbm.attention_weights",
    "t_hbm_shared": "hbm.always",
    "t_hbm_routed": "hbm.routed",
    "t_hbm_head": "hbm.head",
}
for phase in ("attention", "projection", "ffn", "head"):
    PATHS[f"t_compute_{phase}"] = f"compute.{phase}"
    PATHS[f"t_hbm_act_{phase}"] = f"hbm.activations.{phase}"
for family in ("tp", "kv", "ep", "layout"):
    PATHS[f"t_exposed_{family}"] = f"exposed.{family}"
    PATHS[f"t_bandwidth_{family}"] = f"comm.{family}.bandwidth"
    PATHS[f"t_startup_{family}"] = f"comm.{family}.startup"
NOT_IN_STEP = ("total_params", "active_params", "is_feasible", "flops_", "t_stage")


def drawn_conventions(rng, n):
    """Conventions in which every switch takes all of its values about equally often."""
    columns = {k: rng.permutation(np.resize(np.arange(len(v)), n)) for k, v in SWITCHES.items()}
    for i in range(n):
        yield Convention(**{name: SWITCHES[name][column[i]] for name, column in columns.items()})


def cases():
    """Seed, convention, dtypes by phase, and whether batch and GPU count are given."""
    rng = np.random.default_rng(5)
    chosen = [PHYSICAL, PHYSICAL, PAPER, PAPER, dataclasses.replace(PHYSICAL, rounding="floor")]
    chosen += drawn_conventions(rng, 8)
    # Drawn loads change the share of the pool that is read, which few of those drawn ask for.
    chosen.append(dataclasses.replace(PHYSICAL, expert_balance="skewed"))
    return [
        pytest.param(i, convention, phase_dtypes(rng.choice(DTYPES, 4)), i % 2 == 1, id=f"case{i}")
        for i, convention in enumerate(chosen)
    ]


def phase_dtypes(dtypes):
    names = ("attn_dtype", "proj_dtype", "ffn_dtype", "head_dtype")
    return dict(zip(names, map(str, dtypes), strict=True))


CASES = cases()


def oracle_terms(designs, convention, dtypes, gathers=False):
    """The oracle's dicts, turned into arrays by name."""
    n = DESIGNS
    models, hardware, partitions, workloads, numbers, gpus = designs
    static = {name: getattr(convention, name) for name in (*SWITCHES, "rounding")}
    results = [
        oracle.evaluate(*records, gpus=g)
        for *records, g in zip(
            rows(models, n),
            rows(hardware, n),
            rows(partitions, n, gathers_queries=gathers),
            rows(workloads, n, **dtypes),
            rows(numbers, n, **static),
            itertools.repeat(None, n) if gpus is None else gpus.tolist(),
            strict=True,
        )
    ]
    return {name: np.asarray([r[name] for r in results], np.float64) for name in results[0]}


def disagreements(step, expected):
    """Terms that differ, with the worst design of each."""
    found = {}
    for name, want in expected.items():
        if name.startswith(NOT_IN_STEP):
            continue
        got = np.broadcast_to(operator.attrgetter(PATHS.get(name, name))(step), want.shape)
        # An exposed part is what remains of a difference of two times.
        slack = CANCELLATION * expected["t_stage"] if name.startswith("t_exposed") else 0.0
        error = np.abs(got - want) - EXACT * np.abs(want) - slack
        if not np.all(error <= 0):
            worst = int(np.nanargmax(np.where(np.isnan(got), np.inf, error)))
            found[name] = (worst, float(got[worst]), float(want[worst]), int(np.sum(error > 0)))
    return found


@pytest.mark.parametrize(("seed", "convention", "dtypes", "given"), CASES)
def test_every_term_agrees_with_the_oracle(seed, convention, dtypes, given):
    designs = random_designs(seed, convention, given, DESIGNS)
    step = jax.jit(decode_step)(*records(designs, convention, dtypes))
    expected = oracle_terms(designs, convention, dtypes)
    assert not disagreements(step, expected)


@pytest.mark.parametrize("at", [0, 2, 5, 9])
def test_gathered_queries_agree_with_the_oracle(at):
    """vLLM's decode context parallelism: KV ranks share attention's weights and the vocabulary."""
    seed, convention, dtypes, given = CASES[at].values
    designs = random_designs(seed, convention, given, DESIGNS)
    step = jax.jit(decode_step)(*records(designs, convention, dtypes, gathers=True))
    assert not disagreements(step, oracle_terms(designs, convention, dtypes, gathers=True))


def test_vmap_agrees_with_the_oracle():
    dtypes = phase_dtypes(("bf16", "fp8", "fp4", "bf16"))
    designs = random_designs(101, PHYSICAL, given=True, n=DESIGNS)
    rank_one = jax.tree.map(
        lambda x: np.broadcast_to(x, DESIGNS), records(designs, PHYSICAL, dtypes)
    )
    step = jax.jit(jax.vmap(decode_step))(*rank_one)
    assert not disagreements(step, oracle_terms(designs, PHYSICAL, dtypes))


def test_cases_cover_every_switch_and_every_reason():
    used = [case.values[1] for case in CASES]
    for name, values in SWITCHES.items():
        assert {getattr(convention, name) for convention in used} == set(values), name
    static = {f.name for f in dataclasses.fields(Convention) if f.metadata.get("static")}
    assert static == {*SWITCHES, "twin", "rounding"}
    assert {dtype for case in CASES for dtype in case.values[2].values()} == set(DTYPES)
    found, shares = 0, []
    for case in CASES:
        seed, convention, dtypes, given = case.values
        designs = random_designs(seed, convention, given, DESIGNS)
        terms = oracle_terms(designs, convention, dtypes)
        found |= np.bitwise_or.reduce(terms["reasons"].astype(int))
        shares.append(np.mean(terms["is_feasible"]))
    assert found == 2 ** len(oracle.REASONS) - 1
    assert min(shares) > 0.02


def test_parameters_agree_with_the_oracle():
    models = random_models(np.random.default_rng(7), DESIGNS)
    counted = [oracle.params(m) for m in rows(models, DESIGNS)]
    spec = ModelSpec(**models)
    for name, law in (("total", params.total_params), ("active", params.active_params)):
        np.testing.assert_allclose(law(spec), [c[name] for c in counted], rtol=EXACT)


@pytest.mark.parametrize("definition", ["active_ffn", "total"])
def test_dense_twin_agrees_with_the_oracle(definition):
    rng = np.random.default_rng(8)
    models, q = random_models(rng, DESIGNS), log_uniform(rng, 0.2, 30, DESIGNS)
    twin = params.dense_twin(ModelSpec(**models), q, definition)
    for i, m in enumerate(rows(models, DESIGNS)):
        want = oracle.dense_twin(m, float(q[i]), definition)
        for name in ("expert_ff", "experts", "top_k", "dense_layers", "shared_experts"):
            got = np.broadcast_to(getattr(twin, name), (DESIGNS,))[i]
            np.testing.assert_allclose(got, want[name], rtol=EXACT, err_msg=name)


DEGREES = {"tp": (1, 2, 4, 8), "ep": (1, 2, 4, 8), "pp": (1, 2), "dp": (1, 2), "kvp": (1, 2)}
CONTEXTS = (4096.0, 131072.0, 4e6)


def first_row(fields, **static):
    return next(rows(fields, 1, **static))


@pytest.mark.parametrize("convention", [PHYSICAL, PAPER], ids=["physical", "paper"])
def test_search_agrees_with_loops(convention):
    n, dtypes = 5, phase_dtypes(("bf16", "fp8", "fp8", "bf16"))
    drawn = random_designs(11, convention, given=False, n=n)
    drawn.partition["kv_mode"][:] = oracle.KV_HELIX
    drawn.hardware["hbm_bytes"][:] = 1e12
    every, _ = records(drawn, convention, dtypes)
    hardware, partition, workload = jax.tree.map(lambda x: np.ravel(x)[0], every[1:4])
    model = jax.tree.map(lambda x: np.broadcast_to(x, n), every.model)
    axes = make_axes({"context": CONTEXTS, "model": range(n), **DEGREES})
    job = Job(Records(model, hardware, partition, workload), convention)
    plan = make_plan(job.records, axes, convention, skip_illegal=False, devices=1)
    _, found = sweep(job, plan, Outputs(top_k=0), jax.local_devices()[:1])
    names = [axis.name for axis in plan.axes.kept]
    order = [names.index(name) for name in ("context", "model")]
    score, feasible, position = (
        np.transpose(found[name], order) for name in ("score", "feasible", "position")
    )
    winners = plan.designs[position]

    hw, p = first_row(drawn.hardware), first_row(drawn.partition, gathers_queries=False)
    w = first_row(drawn.workload, **dtypes)
    models = list(rows(drawn.model, n))
    for i, j in np.ndindex(len(CONTEXTS), n):
        w.context, m = CONTEXTS[i], models[j]
        index, design = oracle.grid_search(m, hw, p, w, convention, DEGREES, "tokens_per_s_per_gpu")
        assert (feasible[i, j] > 0) == (index is not None)
        if index is not None:
            assert winners[i, j] == index
            np.testing.assert_allclose(score[i, j], design["tokens_per_s_per_gpu"], rtol=EXACT)
    assert (feasible > 0).sum() > feasible.size / 3


@given(
    scores=st.lists(st.sampled_from([1.0, 1 + 5e-10, 1 + 2e-9, 2.0, 2 + 1e-9, -1.0]), min_size=1),
    data=st.data(),
)
def test_ties_agree_with_loops(scores, data):
    n = len(scores)
    gpus = data.draw(st.lists(st.sampled_from([8.0, 16.0]), min_size=n, max_size=n))
    feasible = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    designs = [
        {"score": s, "n_gpus": g, "is_feasible": f}
        for s, g, f in zip(scores, gpus, feasible, strict=True)
    ]
    index = oracle.best(designs, "score")
    padding = (0, 64 - n)  # one shape, one compilation
    choice = pick_best(*(np.pad(np.asarray(x), padding) for x in (scores, feasible, gpus)))
    assert int(choice.position) == (0 if index is None else index)
