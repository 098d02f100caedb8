"""The public face: its names, one design by hand, results, and the user's own process."""

import contextlib
import copy
import dataclasses
import inspect
import json
import math
import pickle
import runpy
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from matplotlib import pyplot as plt
from prompt import qsjax

import qsjax as qs
from qsjax.cli import VERBS
from qsjax.output.result import Result

SPLIT = qs.Partition(tp=8, ep=8)
HBM = 4.8e12
SOME = np.linspace(2e12, 8e12, 5)


def tpot(bandwidth, partition=SPLIT, batch=64.0):
    hardware = qs.hardware("h200-sxm").replace(hbm_bw=bandwidth)
    return qs.decode("deepseek-v3", hardware, partition, context=8192, batch=batch).tpot


def test_the_names_are_public_ones_and_all_exist():
    assert set(dir(qs)) == set(qs.__all__)
    assert all(getattr(qs, name) is not None for name in qs.__all__)
    with pytest.raises(AttributeError, match="explor"):
        _ = qs.explor


def test_transformations_of_a_design_agree_with_it():
    plain = float(tpot(HBM))
    assert float(jax.jit(tpot)(HBM)) == pytest.approx(plain, rel=1e-12)
    each = [float(tpot(x)) for x in SOME]
    np.testing.assert_allclose(jax.vmap(tpot)(SOME), each, rtol=1e-12)
    step = 1e-4 * HBM
    slope = (float(tpot(HBM + step)) - float(tpot(HBM - step))) / (2 * step)
    assert float(jax.grad(tpot)(HBM)) == pytest.approx(slope, rel=1e-5)
    assert float(jax.jit(jax.hessian(tpot))(HBM)) > 0


def test_terms_of_a_design_sum_to_its_tpot():
    found = qs.decode("deepseek-v3", "h200-sxm", SPLIT, context="8k", batch=64)
    assert sum(map(float, found.ledger().values())) == pytest.approx(float(found.tpot), rel=1e-12)
    assert found.fits
    assert found.reasons == ()


def test_a_design_that_cannot_run_is_nan_with_its_reasons():
    """DeepSeek-V3 on one H200 gave 280 tokens/s/GPU before."""
    found = qs.decode("deepseek-v3", "h200-sxm", context=8192)
    assert not found.fits
    assert found.reasons == ("weights do not fit",)
    assert math.isnan(found.tpot)
    assert math.isnan(found.tokens_per_s_per_gpu)

    def alone(bandwidth):
        return tpot(bandwidth, qs.Partition(), None)

    assert math.isnan(jax.jit(alone)(HBM))
    assert math.isnan(jax.grad(alone)(HBM))
    assert np.isnan(jax.vmap(alone)(SOME)).all()


@pytest.mark.parametrize(
    ("record", "name", "value"),
    [
        ("hardware", "hbm_bw", -4.8e12),
        ("hardware", "layer_overhead", -1.0),
        ("hardware", "eff_gemm", 1.5),
        ("hardware", "eager_overhead", math.nan),
        ("hardware", "flops_fp4", math.nan),
        ("model", "layers", 61.5),
        ("partition", "tp", 0.5),
        ("workload", "context", -8192.0),
        ("workload", "batch", 0.0),
    ],
)
def test_a_traced_number_out_of_its_range_gives_no_number(record, name, value):
    """-4.8e12 B/s gave 18.4 ms a token within jit, a layer overhead of -1 s a TPOT of -61 s."""
    parts = {"model": qs.model("deepseek-v3"), "hardware": qs.hardware("h200-sxm")}
    parts |= {"partition": SPLIT}

    def asked(x):
        work = {"context": 8192.0, "batch": 64.0} | ({name: x} if record == "workload" else {})
        records = parts | (
            {record: dataclasses.replace(parts[record], **{name: x})} if record in parts else {}
        )
        return qs.decode(*records.values(), **work)

    found = jax.vmap(asked)(np.array([value, value]))
    assert all("a number is out of its range" in reasons for reasons in found.reasons)
    assert np.isnan(found.tpot).all()
    if name == "hbm_bw":
        assert math.isnan(jax.grad(lambda x: asked(x).tpot)(value))


@pytest.mark.parametrize(
    ("record", "changes"),
    [
        ("model", {"top_k": 300.0}),
        ("model", {"dense_layers": 70.0}),
        ("model", {"window_layers": 3.0}),
        ("hardware", {"overlap_tp": 0.9, "overlap_ep": 0.2}),
        ("workload", {"tokens_per_step": 2.0}),
    ],
)
def test_traced_numbers_that_contradict_give_no_number(record, changes):
    """300 of 256 experts gave a time within jit."""
    given = {"model": qs.model("deepseek-v3"), "hardware": qs.hardware("h200-sxm")}
    given["workload"] = qs.workload("deepseek-v3")

    def asked(values):
        own = dataclasses.replace(given[record], **dict(zip(changes, values, strict=True)))
        records = given | {record: own}
        work = records.pop("workload")
        return qs.decode(*records.values(), SPLIT, context="8k", batch=64, workload=work)

    sound = [getattr(given[record], name) for name in changes]
    both = jax.vmap(asked)(np.array([[*changes.values()], sound]))
    assert both.reasons.tolist() == [("numbers contradict each other",), ()]
    assert np.isnan(both.tpot).tolist() == [True, False]
    with pytest.raises(ValueError, match="|".join(changes)):
        asked([*changes.values()])


def test_a_traced_prompt_out_of_its_range_gives_no_number():
    found = jax.jit(lambda n: qs.prefill("llama-3.1-8b", "h100-sxm", prompt=n))(-4096.0)
    assert "a number is out of its range" in found.reasons
    assert math.isnan(found.ttft)


def test_only_the_designs_that_run_have_numbers():
    found = qs.decode("deepseek-v3", "h200-sxm", SPLIT, context="8k", batch=np.array([8.0, 1e6]))
    assert found.fits.tolist() == [True, False]
    assert np.isnan(found.tpot).tolist() == [False, True]
    assert found.reasons.tolist() == [(), ("batch does not fit",)]


def test_a_context_must_be_given_and_bad_numbers_are_told_together():
    with pytest.raises(TypeError, match="context"):
        qs.decode("deepseek-v3", "h200-sxm", SPLIT)
    with pytest.raises(ValueError, match="tp") as caught:
        qs.decode("deepseek-v3", "h200-sxm", qs.Partition(tp=-1), context=0)
    assert "context" in str(caught.value)


def test_a_prefill_is_faster_on_a_faster_accelerator():
    slow, fast = (
        float(qs.prefill("llama-3.1-8b", name, prompt="4k").ttft)
        for name in ("h100-sxm", "b200-sxm")
    )
    assert 0 < fast < slow


def test_a_prefill_that_cannot_run_says_why_and_is_nan():
    one = qs.prefill("mixtral-8x7b", "h100-sxm", prompt=4096)
    assert one.reasons == ("weights do not fit", "batch does not fit")
    assert not one.fits
    assert np.isnan([one.ttft, one.tokens_per_s, one.tokens_per_s_per_gpu]).all()
    several = qs.prefill("mixtral-8x7b", "h100-sxm", qs.Partition(tp=8), prompt=[4096, 1e8])
    assert several.fits.tolist() == [True, False]
    assert repr(several) == "Prefill(shape (2,), 50% run)"
    slope = jax.grad(
        lambda n: qs.prefill("mixtral-8x7b", "h100-sxm", qs.Partition(tp=8), prompt=n).ttft
    )(4096.0)
    assert 0 < slope < 1e-4


def test_a_twin_and_an_ideal_accelerator_take_names_and_have_them():
    assert qs.dense_twin("mixtral-8x7b", 3).label == "mixtral-8x7b, q=3"
    assert qs.ideal("h100").eff_gemm == 1.0


def test_a_heat_map_of_two_models_has_axes_with_units():
    axes = {"hbm_bw": np.linspace(2e12, 8e12, 3), "hbm_bytes": np.array([80e9, 160e9])}
    problem = qs.Problem(
        ["llama-3.1-8b", "mixtral-8x7b"], "h100-sxm", gpus=8, context=8192, axes=axes
    )
    data = qs.explore(problem).dataset
    assert dict(data.tpot.sizes) == {"model": 2, "hbm_bw": 3, "hbm_bytes": 2}
    assert data.tpot.attrs["units"] == "s"
    assert data.hbm_bw.attrs["units"] == "B/s"
    assert all({"units", "long_name"} <= data[name].attrs.keys() for name in data.data_vars)


def test_a_result_prints_in_ten_lines_and_is_saved(tmp_path):
    found = qs.explore(qs.Problem("mixtral-8x7b", "h100-sxm", gpus=8, twins=5))
    answer, shown = found.summary(), repr(found)
    assert shown.startswith(f"{answer}\n")
    assert len(answer.splitlines()) <= 3
    assert len(shown.removeprefix(answer).strip().splitlines()) <= 10
    assert "<table>" in found._repr_html_()
    assert len(found.frame()) == 2 * 6  # contexts of 1k to 32k, to what the model is published for
    written = found.save(tmp_path)
    assert {"inputs.json", "result.json", "best.csv", "best.nc"} <= {p.name for p in written}
    assert json.loads((tmp_path / "result.json").read_text())["best"]
    for there in (written[0], written[0] / "below"):
        with pytest.raises(ValueError, match=r"cannot be written: .*; results take a folder"):
            found.save(there)


def test_a_result_of_several_models_shows_all_of_them_by_name():
    problem = qs.Problem(["mixtral-8x7b", "llama-3.1-8b"], ["h100-sxm", "l4"], gpus=1, context="8k")
    found = qs.explore(problem)
    for shown in (repr(found), found._repr_html_()):
        assert all(
            f"{model} on {device} (" in shown
            for model in problem.model
            for device in problem.hardware
        )
    long = qs.explore(dataclasses.replace(problem, context=["1k", "2k", "4k"]))
    assert repr(long).endswith("... and 4 more rows")


def test_an_answer_says_where_on_the_axes_it_stands():
    axes = {"hbm_bw": [2e12, 4e12]}
    asked = qs.Problem("mixtral-8x7b", "h100-sxm", gpus=[2], context="8k", axes=axes)
    assert qs.explore(asked).summary().startswith("On 2 h100-sxm with hbm_bw = 4 TB/s, mixtral")
    assert qs.explore(asked).tables()[0].rows[0][1] == "2 TB/s"
    none = qs.explore(dataclasses.replace(asked, gpus=1)).summary()
    assert "on 1 h100-sxm GPU with hbm_bw = 2 TB/s: it would fit with" in none
    assert none.endswith(" The other cell has none either.")


def test_records_without_a_name_and_objectives_read_well():
    shape = {"layers": 32, "hidden": 4096, "vocab": 32000, "heads": 32, "kv_heads": 8}
    mine = qs.ModelSpec(**shape, head_dim=128, expert_ff=14336)
    gpu = dataclasses.replace(qs.hardware("h100-sxm"), label="")
    asked = qs.Problem(mine, gpu, gpus=1, context="8k", objective="joules_per_token")
    first = qs.explore(asked).summary()
    assert first.startswith("On 1 my-gpu, my-model is best in joules per token (0.")


def test_axes_that_are_none_are_told():
    found = qs.explore(qs.Problem("llama-3.1-8b", "h100-sxm", gpus=1, context="8k"))
    _, axes = plt.subplots(1, 2)
    with pytest.raises(ValueError, match="ax: a ndarray is not one matplotlib Axes"):
        found.plot(ax=axes)


def test_limits_that_nothing_keeps_are_told_as_such():
    asked = qs.Problem("llama-3.1-8b", "h100-sxm", gpus=1, context="8k")
    within = dataclasses.replace(asked, limits=qs.Limits(max_tpot=0.01))
    full = qs.explore(dataclasses.replace(within, batch="largest")).summary()
    assert full.startswith("No design keeps TPOT <= 10 ms.\n")
    assert 'with the largest batch that it holds; batch="best" tries smaller ones.' in full
    assert qs.explore(within).rows()[0]["is_feasible"]
    several = dataclasses.replace(asked, hardware=["h100-sxm", "h200-sxm"])
    none = qs.compare(dataclasses.replace(several, limits=qs.Limits(max_tpot=1e-4)))
    assert none.summary() == "No design keeps TPOT <= 0.1 ms on 1 GPU with llama-3.1-8b at 8k."


QUESTIONS = """
import json, qsjax as qs
p = qs.Problem("mixtral-8x7b", "h100-sxm", gpus=8, context=[8192, 32768], twins=5)
found = {
    "explore": [row["tpot"] for row in qs.explore(p).rows()],
    "sensitivity": [row["elasticity"] for row in qs.sensitivity(p, ["hbm_bw"]).rows()],
    "break_even": [row["roots"] for row in qs.break_even(p).rows()],
    "switching": qs.switching(p, ["hbm_bw"]).rows(),
    "uncertainty": qs.uncertainty(p, {"q": qs.normal(5, 1)}, draws=64).rows(),
    "decode": float(qs.decode("mixtral-8x7b", "h100-sxm", qs.Partition(tp=8), context=8192).tpot),
    "counts": [
        float(2.0 * count) for count in (
            qs.total_params("mixtral-8x7b"), qs.active_params("mixtral-8x7b"),
            qs.dense_twin("mixtral-8x7b", 5.0).expert_ff,
            qs.prefill("mixtral-8x7b", "h100-sxm", qs.Partition(tp=8), prompt=512).ttft,
        )
    ],
}
print(json.dumps(found, default=str))
"""
NARROW = """
import jax, jax.numpy as jnp, warnings
jax.config.update("jax_enable_x64", False)
warnings.simplefilter("error")  # a product of an array in 64 bits would warn and lose its digits
assert jnp.ones(3).dtype == jnp.float32
"""


def test_every_question_answers_alike_with_64_bits_on_and_off(capsys):
    """On in this process, where warnings are errors too."""
    assert jax.numpy.ones(3).dtype == np.float64
    exec(QUESTIONS, {})
    narrow = subprocess.run(
        [sys.executable, "-c", NARROW + QUESTIONS], capture_output=True, text=True, check=True
    )
    assert json.loads(narrow.stdout) == json.loads(capsys.readouterr().out)


def test_the_content_of_a_config_is_a_model():
    config = {
        "model_type": "llama",
        "num_hidden_layers": 32,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "torch_dtype": "bfloat16",
    }
    own, listed = (
        float(qs.decode(m, "h100-sxm", context=8192, batch=8).tpot)
        for m in (config, "llama-3.1-8b")
    )
    assert own == pytest.approx(listed, rel=1e-12)
    with pytest.raises(ValueError, match="hidden_size"):
        qs.model({**config, "hidden_size": -1})


def test_counts_of_int32_do_not_overflow():
    """671e9 parameters became 13.9e9."""
    model = qs.model("deepseek-v3")
    counts = {f.name: getattr(model, f.name) for f in dataclasses.fields(model)}
    short = {k: np.int32(x) for k, x in counts.items() if isinstance(x, float) and x == int(x)}
    for count in (qs.total_params, qs.active_params):
        assert float(count(model.replace(**short))) == pytest.approx(float(count(model)), rel=1e-12)
        assert float(count("deepseek-v3")) == float(count(model))
    assert 670e9 < float(qs.total_params(model)) < 672e9
    twins = [qs.dense_twin(one, 3.0) for one in (model.replace(**short), model)]
    assert float(twins[0].expert_ff) == pytest.approx(float(twins[1].expert_ff), rel=1e-12)


@pytest.mark.parametrize(
    ("more", "says"),
    [({"limits": {"max_tpot": 1}}, "Limits"), ({"axes": None}, "axes: a NoneType")],
)
def test_what_is_no_record_is_told(more, says):
    with pytest.raises(ValueError, match=says):
        qs.Problem("mixtral-8x7b", "h100-sxm", **more)


# Verbs that answer nothing that a function would: catalogues, pages, shells.
NO_QUESTIONS = {"models", "hardware", "app", "report", "completion"}


def test_every_verb_is_a_function():
    verbs = {name.replace("-", "_") for name in VERBS} - NO_QUESTIONS
    assert verbs <= set(qs.__all__)
    # `help` shows what may be given, and not 73 names that are given by default.
    assert max(len(str(inspect.signature(getattr(qs, name)))) for name in verbs) < 1000
    assert qs.model_names()
    assert qs.hardware_names()


MIXTRAL = {"model": "mixtral-8x7b", "hardware": "h100-sxm", "gpus": 8, "context": 8192}
PUBLIC = runpy.run_path(str(Path(__file__).parents[1] / "docs/public.py"))
# Of the examples of public names those that answer a question.
OTHERS = {"explain_command", "hessian", "size_apart", "solve_for", "switching", "uncertainty"}
ANSWERS = {name.replace("-", "_") for name in VERBS} - NO_QUESTIONS | OTHERS
# Of them those that have a figure whatever is asked.
DRAWN = {"explore", "explain", "pareto", "compare", "simulate", "sweep", "validate"}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What the examples make, and the folder in which they ran."""
    folder = tmp_path_factory.mktemp("public")
    with contextlib.chdir(folder):
        return PUBLIC["made"](), folder


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_the_example_of_every_question_makes_a_result(name, answers, tmp_path, monkeypatch):
    made, folder = answers
    monkeypatch.chdir(folder)
    found = made[name]
    assert isinstance(found, Result)
    assert len(repr(found).splitlines()) <= 16
    assert found._repr_html_().startswith("<p>")
    assert repr(pickle.loads(pickle.dumps(found))) == repr(copy.deepcopy(found)) == repr(found)
    assert len(found.frame()) == len(found.rows()) > 0
    data = found.dataset
    for field in (*data.data_vars, *data.coords):
        assert {"units", "long_name"} <= data[field].attrs.keys(), field
        assert data[field].dtype.kind != "T", field  # texts that xarray's `idxmax` cannot give
    files = {file.name: file for file in found.save(tmp_path / "out")}
    assert {"inputs.json", "sweep.json"} & files.keys()
    assert found.drawings() or name not in DRAWN
    if found.drawings():
        assert found.plot().get_title(loc="left")
        if name == "sweep":  # whose folder is copied as it is
            pictures = [qs.plotting.render(found.plot())]
        else:
            pictures = [files[f"{figure}.svg"].read_bytes() for figure in found.drawings()]
        assert all(b"<svg" in picture for picture in pictures)
    else:
        with pytest.raises(ValueError, match=r"is numbers alone|it takes several contexts"):
            found.plot()


@pytest.mark.parametrize(
    ("ask", "dims", "units"),
    [
        (
            lambda p: qs.hessian(p, ["hbm_bw", "q"]),
            {"variant": 3, "hbm_bytes": 2, "parameter": 2, "other": 2},
            {"second": "1"},
        ),
        (
            lambda p: qs.switching(p, ["hbm_bw"], span=2),
            {"variant": 3, "hbm_bytes": 2},
            {"switch_up": "1"},
        ),
        (
            lambda p: qs.break_even(p, "context"),
            {"variant": 2, "hbm_bytes": 2, "turn": 1},
            {"roots": "tokens", "now": "tokens", "low": "tokens"},
        ),
        (
            lambda p: qs.solve_for(dataclasses.replace(p, gpus=[4, 8]), "gpus", tpot=0.02),
            {"variant": 3, "hbm_bytes": 2},
            {"gpus": "GPUs", "value": "s", "best": "s"},
        ),
        (
            lambda p: qs.mix(p, [(1000, 200), (4000, 100)]),
            {"variant": 3, "hbm_bytes": 2, "context": 2},
            {"share": "1", "tokens_per_s_per_gpu": "tokens/s/GPU"},
        ),
        (qs.pareto, {"label": 6}, {"tpot_low": "s"}),
        (qs.compare, {"subject": 3}, {"margin": "1"}),
    ],
)
def test_a_data_set_lies_over_the_axes_of_its_problem(ask, dims, units):
    """Rows in a line gave d2 log, roots as text without a unit and TPOT in "1"."""
    kept = {} if ask is qs.compare else {"axes": {"hbm_bytes": [80e9, 160e9]}}
    found = ask(qs.Problem(**MIXTRAL, twins=[2, 5], **kept))
    data = found.dataset
    assert {name: size for name, size in data.sizes.items() if size > 1 or name in dims} == (
        dims | ({"point": data.sizes["point"]} if "point" in data.sizes else {})
    )
    assert {name: data[name].attrs["units"] for name in units} == units
    row = next(row for row in reversed(found.rows()) if row.get("roots", True))
    places = {
        name: f"dense q={row['q']:g}" if name == "variant" else row[name]
        for name in data.sizes
        if name != "turn"
    }
    for name in units:
        value = row[name][0] if name == "roots" else row[name]
        at = data[name].sel(places)
        np.testing.assert_array_equal(at[0] if "turn" in at.dims else at, value)
    if ask is qs.compare:
        assert data.margin.attrs["long_name"].startswith("factor from which the difference")


def test_a_sweep_of_a_problem_is_what_explore_finds(tmp_path, monkeypatch):
    problem = qs.Problem(
        "mixtral-8x7b", ["h100-sxm", "h200-sxm"], gpus=8, context=[8192, 32768], twins=5,
        limits=qs.Limits(max_tpot=0.03), axes={"hbm_bw": [3e12, 5e12]}, batch="largest",
    )  # fmt: skip
    swept = qs.sweep(problem, tmp_path / "out", pareto=True)
    rates = np.sort(swept.dataset.tokens_per_s_per_gpu.values.ravel())
    rows = qs.explore(problem).rows()
    own = np.sort([row.get("tokens_per_s_per_gpu", np.nan) for row in rows])
    np.testing.assert_allclose(rates, own, rtol=1e-12)
    assert swept.front().tokens_per_s_per_gpu.max() == swept.top().tokens_per_s_per_gpu.max()
    first = max(rows, key=lambda row: row.get("tokens_per_s_per_gpu", 0.0))
    assert swept.summary().startswith(
        f"Best of all: {first['model']} on 8 {first['hardware']}, hbm_bw 5 TB/s, at 8k with "
    )
    assert f": {first['tokens_per_s_per_gpu']:,.0f} tokens/s on each GPU, " in swept.summary()
    with pytest.raises(ValueError, match="resume=True"):
        qs.sweep(problem, tmp_path / "out")
    assert qs.sweep(problem, tmp_path / "out", resume=True, pareto=True).counts == swept.counts
    copies = swept.top().assign(gpus=16)  # of a winner of 8
    monkeypatch.setattr(type(swept), "top", lambda _: copies)
    assert f" on 16 {first['hardware']}, hbm_bw 5 TB/s, at 8k with 2 x " in swept.summary()


def test_what_a_sweep_cannot_do_is_told_at_once(tmp_path):
    problem = qs.Problem(
        **MIXTRAL, batch="best", objective="headroom", limits=qs.Limits(max_tp=4.0, max_tpot=1.0)
    )
    with pytest.raises(ValueError, match="batch: ") as told:
        qs.sweep(problem, tmp_path / "out")
    assert all(part in str(told.value) for part in ("objective: ", "limits: "))
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="a dict is not a sweep"):
        qs.sweep({}, tmp_path / "out")
    with pytest.raises(ValueError, match="convention: a sweep has one; give physical or paper"):
        qs.sweep(qs.Problem(**MIXTRAL, convention="both"), tmp_path / "out")
    problem = qs.Problem(**MIXTRAL, axes={"kv_overhead": [1.0, 2.0]})
    with pytest.raises(ValueError, match=r"top_k: -1 is not allowed.*\nkv_overhead: .*Convention"):
        qs.sweep(problem, tmp_path / "out", top_k=-1)
    with pytest.raises(ValueError, match=r"topk: did you mean top_k\?"):
        qs.sweep(problem, tmp_path / "out", topk=3)
    with pytest.raises(ValueError, match=r"pareto: the file sweep\.toml says what is kept"):
        qs.sweep("sweep.toml", tmp_path / "out", pareto=True)


@pytest.mark.parametrize("ask", [qs.explore, qs.pareto, qs.binding])
def test_a_frame_in_which_nothing_runs_has_the_columns_of_a_design(ask):
    nothing, some = (
        ask(qs.Problem("deepseek-v3", "h200-sxm", gpus=n, context=8192)) for n in (1, 8)
    )
    assert {"tp", "kv_mode", "users", "tpot", "tokens_per_s_per_gpu"} <= {*nothing.framed}
    assert nothing.frame()[[*nothing.framed]].dropna().empty
    assert {*some.framed} <= {name for row in some.rows() for name in row}


def test_conventions_and_other_words_of_options_in_capitals():
    for name in ("Paper", "PAPER", "Both"):
        stated = qs.Problem(**MIXTRAL, convention=name).stated
        assert stated == qs.Problem(**MIXTRAL, convention=name.lower()).stated
    small = ("explore", "llama-3.1-8b", "--gpus", "1", "--context", "8k")
    words = ("--convention", "physical", "--engine", "vllm", "--format", "csv")
    capitals = (word if word.startswith("--") else word.upper() for word in words)
    assert qsjax(*small, *capitals, code=0).stdout == qsjax(*small, *words, code=0).stdout


def test_fields_of_the_workload_replace_those_of_each_model():
    names = ["mixtral-8x7b", "deepseek-v3"]
    plain, stated = (
        qs.Problem(names, "h100-sxm", workload=fields).stated.models
        for fields in (None, {"bytes_act": 1.5, "ffn_dtype": "bf16"})
    )
    for own, model in zip(plain, stated, strict=True):
        assert model.workload == own.workload.replace(bytes_act=1.5, ffn_dtype="bf16")
    with pytest.raises(ValueError, match=r"workload: batch, speed is not known; give some of"):
        qs.Problem(names, "h100-sxm", workload={"batch": 2, "speed": 1})
    with pytest.raises(ValueError, match=r"bytes_act: 0 is not allowed\S* give a number above 0"):
        qs.Problem(names, "h100-sxm", workload={"bytes_act": 0})


DENSE = {"model": "llama-3.1-8b", "gpus": 1, "context": "8k"}


def test_cells_of_several_accelerators_and_of_other_axes_are_told_apart():
    """A table had one column for two accelerators, and a dense model was called the MoE."""
    chips = qs.Problem(**DENSE, hardware=["h100-sxm", "h200-sxm"])
    field = qs.Problem(**DENSE, hardware="h100-sxm", axes={"hbm_bw": [2e12, 4e12]})
    for problem, names in ((chips, ("h100-sxm", "h200-sxm")), (field, ("2 TB/s", "4 TB/s"))):
        slopes = qs.sensitivity(problem, ["hbm_bytes"])
        assert len(slopes.tables()[0].heads) == 3
        for line, name in zip(slopes.summary().splitlines(), names, strict=True):
            assert name in line
        moved = qs.switching(problem, ["hbm_bytes"])
        assert len(moved.drawings()) == 2
        assert len({tuple(row[:8]) for row in moved.tables()[0].rows}) == 2
        told = qs.uncertainty(problem, {"hbm_bw": qs.uniform(1e12, 4e12)}, draws=16).summary()
        told = told if problem is chips else qs.pareto(problem).summary()
        assert all(name in told for name in names)
        assert "MoE" not in told
    models = qs.Problem(["mixtral-8x7b", "qwen3-30b-a3b"], "h100-sxm", gpus=8, twins=[3])
    mixed = qs.mix(models, [qs.Request(2000, 50), qs.Request(9000, 50)])
    assert mixed.summary().count("q = 3 ") == 1  # the other model's twin is another matter
    least = qs.solve_for(field, "gpus", tpot=0.008)
    assert "with hbm_bw = 4 TB/s: 1 GPU keeps TPOT <= 8 ms with 6.46 ms." in least.summary()
    title = least.plot().get_title(loc="left").replace("\n", " ")
    assert title.endswith("in none of 2 cases")


def test_what_is_in_the_way_names_no_memory_where_limits_are():
    within = qs.Problem(**DENSE, hardware="h100-sxm", limits=qs.Limits(max_tpot=1e-4))
    with pytest.raises(ValueError, match=r"at 8k: no design keeps TPOT <= 0.1 ms\. Give a part"):
        qs.explain(within)
    assert "HBM" not in qs.sensitivity(within, ["hbm_bw"]).summary()
    small = qs.Problem(**DENSE, hardware="l4", weights="bf16", kv="bf16")
    with pytest.raises(ValueError, match=r"at 128k: no design runs\. It would fit with "):
        qs.explain(dataclasses.replace(small, context="128k"))


def test_uncertainty_without_a_twin_tells_the_spread_of_the_optimum():
    problem = qs.Problem(**DENSE, hardware="h100-sxm", objective="tpot")
    found = qs.uncertainty(problem, {"hbm_bw": qs.uniform(2e12, 4e12)}, draws=64)
    low, high = (1e3 * found.rows()[0]["objective"][name] for name in ("p5", "p95"))
    said = f"with uncertain hbm_bw TPOT is {low:.3g} ms (p5) to {high:.3g} ms (p95)."
    assert found.summary() == f"llama-3.1-8b, dense, 1 h100-sxm, context 8,192: {said}"
    assert "TPOT [s] p50" in repr(found)


class _Mixed(Result):
    def rows(self):
        return [{"a": 1, "b": "x"}, {"a": 2.5, "b": 3}, {"a": "4 (both)", "b": None}]


def test_a_text_among_numbers_does_not_keep_a_data_set_from_being_written(tmp_path):
    """`qsjax validate --out` failed by 13 measurements in words among 4,150."""
    data = _Mixed().dataset
    np.testing.assert_array_equal(data.a, [1.0, 2.5, np.nan])
    assert data.b.values.tolist() == ["x", "3", ""]
    data.to_netcdf(tmp_path / "mixed.nc")
    assert qs.validate(category="moe_a2a").dataset.measured.dtype == float
