"""What a notebook user gets wrong: names for records, numbers for lists, unknown objectives."""

import enum
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import qsjax
from qsjax.cli import cli
from qsjax.records.checks import check_records

ROOT = Path(__file__).parent.parent
MODEL, GPU = qsjax.model("mixtral-8x7b"), qsjax.hardware("h100-sxm")

QUESTIONS = (
    *("explore", "pareto", "compare", "explain", "sensitivity", "switching", "hessian"),
    *("break_even",),
)


def test_swapped_records_are_told():
    swap = "model: a HardwareSpec is not a ModelSpec; hardware is one: swap the two"
    with pytest.raises(ValueError, match=swap):
        check_records(model=GPU, hardware=MODEL)
    with pytest.raises(ValueError, match=r"workload: 8192 is not a Workload; give qsjax\.Work"):
        qsjax.Problem(MODEL, GPU, workload=8192)
    with pytest.raises(ValueError, match=r"8 is not a Partition; give qsjax\.Partition\(tp=8"):
        qsjax.explain(qsjax.Problem(MODEL, GPU, gpus=8, context=8192), 8)
    with pytest.raises(ValueError, match="a HardwareSpec is not a ModelSpec"):
        qsjax.Problem(GPU, MODEL, gpus=[8])


@pytest.mark.parametrize("ask", QUESTIONS)
def test_a_question_of_no_problem_is_told(ask):
    with pytest.raises(ValueError, match=r"'mixtral-8x7b' is not a Problem; give qsjax\.Problem"):
        getattr(qsjax, ask)("mixtral-8x7b")
    with pytest.raises(ValueError, match="problem: a ModelSpec is not a Problem"):
        getattr(qsjax, ask)(MODEL)


@pytest.mark.parametrize(
    "ask",
    [
        *("compare", "pareto", "binding", "moe_or_dense", "architecture", "mix", "simulate"),
        *("size", "size_apart"),
    ],
)
def test_an_objective_that_would_change_nothing_is_told(ask):
    with pytest.raises(ValueError, match=rf"objective: {ask} .* objective='tpot' would change"):
        getattr(qsjax, ask)(qsjax.Problem(MODEL, GPU, gpus=8, context="8k", objective="tpot"))


@pytest.mark.parametrize("ask", [qsjax.model, qsjax.hardware, qsjax.workload])
def test_records_in_place_of_names_are_told(ask):
    """The precisions of one's own model are a `Workload`, not `workload(model)`."""
    with pytest.raises(ValueError, match="a ModelSpec is not a name; give one of the catalogue"):
        ask(MODEL)
    with pytest.raises(ValueError, match="None is not a name"):
        ask(None)
    with pytest.raises(ValueError, match="is not a name: it has 300 characters"):
        ask("x" * 300)


SMALL = qsjax.Problem(MODEL, GPU, gpus=8, context="8k", twins=3)
PRICES = qsjax.CostModel({"hbm_bw": qsjax.Price(50.0)})


def served(**given):
    return qsjax.simulate(SMALL, users=1, isl=10, osl=10, **given)


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: qsjax.sensitivity(SMALL, []), "parameters: none was given"),
        (lambda: qsjax.sensitivity(SMALL, "q", []), "metrics: none was given"),
        (lambda: qsjax.switching(SMALL, []), "parameters: none was given"),
        (lambda: qsjax.hessian(SMALL, []), "parameters: none was given"),
        (lambda: qsjax.hessian(SMALL, "hbm_bandwidth"), "'hbm_bandwidth' is not a parameter"),
        (lambda: qsjax.certify(SMALL, 0.1, claims=[]), "claims: none was given"),
        (lambda: qsjax.certify(SMALL, ["hbm_bw"]), "is not a range; give a share above 0 and"),
        (lambda: qsjax.solve_for(SMALL, "hbm_bw", tpot="20mm"), r"'20mm' is not .* above 0 \[s\]"),
        (lambda: qsjax.solve_for(SMALL, "hbm_bw", tpot=[0.1, 0.2]), "2 values are given; give one"),
        (lambda: qsjax.design(SMALL, PRICES, tpot="20 GB"), r"tpot: '20 GB' is not allowed"),
        (lambda: qsjax.design(SMALL, qsjax.CostModel({"hbm_bw": 50})), "50 is not a Price; give"),
        (lambda: qsjax.design(SMALL, qsjax.CostModel(50)), "prices are 50, and no prices by name"),
        (lambda: qsjax.uncertainty(SMALL, ["q"]), "distributions: a list was given"),
        (lambda: qsjax.uncertainty(SMALL, {"q": 5}), "5 is not a distribution; give for example"),
        (lambda: qsjax.uncertainty(SMALL, {"q": qsjax.normal("5", 1)}), "normal takes mean"),
        (lambda: qsjax.dense_twin(MODEL, -3), "q: -3 is not allowed"),
        (
            lambda: qsjax.dense_twin("mixtral-8x7b", 5, definition="actve"),
            "definition: 'actve' is not allowed; give one of active_ffn, total",
        ),
        (lambda: qsjax.sensitivity(SMALL, "q", rounding="flor"), "did you mean floor"),
        (lambda: qsjax.hessian(SMALL, "hbm_bw", rounding=["floor"]), "rounding: .* not allowed"),
        (lambda: qsjax.sensitivity(SMALL, [["q"]]), "is not a parameter"),
        (lambda: qsjax.certify(SMALL, 0.1, claims=[None]), "claims: 'None' is not a claim"),
        (lambda: qsjax.workload("mixtral-8x7b", kv=["fp8"]), r"dtype \['fp8'\] is unknown"),
        (lambda: qsjax.study(SMALL, [["paper"]]), r"\['paper'\] not known; give physical or paper"),
        (lambda: qsjax.explain(SMALL, requests=4096), "requests: 4096 is not allowed; give input"),
        (lambda: qsjax.explain(SMALL, requests=(-1, 5)), "requests: input: -1 is not allowed"),
        (lambda: qsjax.prefill(MODEL, GPU, prompt=0), "prompt: 0 is not allowed"),
        (lambda: qsjax.prefill(MODEL, GPU, prompt=None), "prompt: None is not a number"),
        (
            lambda: qsjax.prefill(MODEL, GPU, prompt=1, context_parallel="pass-q"),
            "context_parallel: 'pass-q' is not allowed; give one of pass_kv, pass_q",
        ),
        (
            lambda: qsjax.decode(MODEL, GPU, context=1, batch=1, convention=["paper"]),
            r"unknown convention \['paper'\]; give physical or paper",
        ),
        (lambda: served(requests=10.5), "requests: 10.5 is not allowed; give one whole number"),
        (lambda: served(seed=0.5), "seed: 0.5 is not allowed; give one whole number"),
        (lambda: qsjax.break_even(SMALL, "q", points=1), "points: 1 is not .* at least 2"),
        (lambda: qsjax.solve_for(SMALL, "hbm_bw", tpot=1, points=9.5), "points: 9.5 is not"),
        (lambda: qsjax.break_even(SMALL, "context", "1 kB"), "interval of context: '1 kB' is not"),
        (lambda: qsjax.break_even(SMALL, "hbm_bw", "1ms"), "interval of hbm_bw: '1ms' is not"),
        (lambda: qsjax.solve_for(SMALL, "gpus", [1, 2], tpot=1), "give numbers for low and high"),
        (lambda: qsjax.size(SMALL, users=[1, 2], isl=9, osl=9), "users: 2 values were given"),
        (lambda: qsjax.size(SMALL, users=1, isl=9, osl=9, tpot="20 m"), "tpot: '20 m' is not"),
        (lambda: served(requests=0.5), "requests: 0.5 .* give one whole number from 1 on"),
        (lambda: qsjax.Problem(MODEL, GPU, batch=2.5), "batch: 2.5 is not allowed; give a whole"),
        (lambda: qsjax.Problem(MODEL, GPU, axes={"batch": [2.5]}), "batch: 2.5 is not allowed"),
        (lambda: qsjax.speculate(SMALL, batches=[]), r"batches: \[\] is not allowed"),
        (lambda: qsjax.speculate(SMALL, acceptance="most"), "acceptance: 'most' is not a number"),
        (lambda: qsjax.served(MODEL, acceptance="most"), "acceptance=most, drafts=1 is not"),
        (lambda: qsjax.compare(SMALL, [qsjax.Subject()]), "subjects: a list was given; give"),
        (lambda: qsjax.explain_command(8, "h100-sxm"), "command: an int was given"),
        (
            lambda: qsjax.compare(SMALL, {"A": qsjax.Subject(), "B": qsjax.Subject(1, q=9)}),
            "no such model and q; models",
        ),
        (
            lambda: qsjax.explain(SMALL, qsjax.Partition(kv_mode="ring")),
            "'ring' is not a KV mode; give one of none, kvp, cp",
        ),
    ],
)
def test_wrong_arguments_of_questions_are_told_in_a_line(ask, says):
    """None of them as an error of NumPy, nor once for each letter of a name."""
    with pytest.raises(ValueError, match=says) as told:
        ask()
    assert len(str(told.value)) < 200


def test_one_name_may_stand_alone():
    one = qsjax.sensitivity(SMALL, "hbm_bw", "tpot", one_sided=False)
    assert [(row["parameter"], row["metric"]) for row in one.rows()] == [("hbm_bw", "tpot")] * 2
    for claims in ("winner", ["winner", "winner"]):
        (claim,) = qsjax.certify(SMALL, {"hbm_bw": 0.01}, claims=claims, largest=False).rows()
        assert claim["claim"] == "winner"


@pytest.mark.parametrize(
    "single",
    [
        {"gpus": 8, "context": 8192, "twins": 3.0, "axes": {"tp": 8, "kv_mode": "kvp"}},
        {"gpus": "8", "context": "8k", "twins": "3", "axes": {"tp": "8", "kv_mode": ["kvp"]}},
        {"gpus": np.int32(8), "context": np.float32(8192), "twins": np.array(3), "axes": {}},
        {"gpus": range(8, 9), "context": (8192,), "twins": jnp.array([3]), "axes": {}},
    ],
)
def test_numbers_are_read_from_whatever_holds_them(single):
    stated = qsjax.Problem(MODEL, GPU, **single).stated
    assert (stated.gpus, stated.contexts, stated.twins) == ((8.0,), (8192.0,), (3.0,))


@pytest.mark.parametrize(
    ("axes", "says"),
    [
        ({"hbm_bw": [2e12, 4e12]}, "hbm_bw 2 TB/s, 4 TB/s"),
        ({"hbm_bytes": [8e10, 1e11, 2e11, 3e11]}, "hbm_bytes 80 GB to 300 GB"),
        ({"layer_overhead": 2.5e-6, "eff_gemm": 0.5}, "layer_overhead 2.5 us, eff_gemm 0.5"),
        ({"island_size": [8, 72], "kv_mode": ["kvp", "cp"]}, "island_size 8, 72, kv_mode kvp, cp"),
    ],
)
def test_a_problem_names_its_axes_with_their_units(axes, says):
    problem = qsjax.Problem("mixtral-8x7b", "h100-sxm", gpus=8, context="8k", axes=axes)
    assert repr(problem) == f"Problem: mixtral-8x7b on 8 h100-sxm at 8k, {says}"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"axes": {"hbm_bw": [3.35, 4e12]}}, "Note: hbm_bw is 3.35 B/s; 1 TB/s is 1e12."),
        ({"hardware": qsjax.hardware("h100-sxm").replace(flops_fp8=1978)}, "flops_fp8 is 1.98 kFL"),
        ({"hardware": GPU.replace(hbm_bw=3.35e15)}, "Note: hbm_bw is 3.35 PB/s; 1 TB/s is 1e12."),
        ({"axes": {"inter_bw": [1e10, 1e11]}}, "Note: inter_bw changes nothing here: every value"),
        ({"axes": {"hbm_bw": [2e12, 4e12]}}, ""),
        ({"limits": qsjax.Limits(max_tpot=20)}, "Note: the limit on TPOT is 20 s; 20 ms is 0.02."),
        ({"limits": qsjax.Limits(max_tpot=0.02)}, ""),
    ],
)
def test_numbers_that_look_like_another_unit_are_told(given, says):
    named = {"hardware": "h100-sxm", "gpus": 1, "context": "8k"} | given
    told = "\n".join(qsjax.explore(qsjax.Problem("llama-3.1-8b", **named)).cautions())
    assert (says in told) if says else not told


@pytest.mark.parametrize(
    ("axes", "says"),
    [
        ({"kv_heads": [8, 7]}, "axes of .*: kv_heads: 7 does not divide 32 query heads; choose"),
        ({"experts": [8, 64], "top_k": [2, 16]}, "top_k: 16 exceeds the 8 experts; lower it"),
        ({"window_layers": [16]}, "window: 0 is not allowed with window_layers = 16"),
        ({"window": [512]}, "window: 512 changes nothing while window_layers is 0"),
        ({"overlap_tp": 0.9, "overlap_ep": 0.8}, "axes of .*: overlap_tp: .* exceeds 1"),
        ({"q": [2, 3]}, r"q: not in axes; give Problem\(\.\.\., twins=\[\.\.\.\]\)"),
        ({"E": [8, 64]}, "unknown axis 'E'; did you mean experts?"),
        ({"kv_lora_rank": [512]}, "unknown axis 'kv_lora_rank'; did you mean kv_latent?"),
        ({"latency": [1e-6]}, "did you mean intra_latency .s. or inter_latency .s.?"),
        ({"hbm_bw": ["fast"]}, "^hbm_bw: 'fast' is not a number .*; give a number above 0$"),
    ],
)
def test_axes_that_contradict_a_record_are_told(axes, says):
    with pytest.raises(ValueError, match=says):
        qsjax.Problem(MODEL, GPU, gpus=8, axes=axes)


class Name(str, enum.Enum):  # noqa: UP042 - whose text is "Name.GPU", unlike that of a StrEnum
    MODEL, GPU, ENGINE = "llama-3.1-8b", "h100-sxm", "vllm"


@pytest.mark.parametrize(
    ("model", "gpu", "more"),
    [
        (Name.MODEL, Name.GPU, {"engine": Name.ENGINE}),
        (np.array("llama-3.1-8b"), np.str_("h100-sxm"), {"gpus": np.array("1")}),
        (pd.Series(["llama-3.1-8b"]), ["h100-sxm"], {"context": pd.Series(["8k", "32k"])}),
        ("llama-3.1-8b", "h100-sxm", {"context": pd.array(["8k", 32768])}),
    ],
)
def test_texts_of_any_library_are_texts(model, gpu, more):
    """A series of texts was told to be no number; an array of one name was a TypeError."""
    asked = qsjax.Problem(model, gpu, **({"gpus": 1, "context": "8k"} | more))
    assert {one.name for one in asked.stated.models} == {"llama-3.1-8b"}
    assert (asked.stated.accelerators[0].name, asked.stated.gpus) == ("h100-sxm", (1.0,))
    assert asked.stated.contexts in ((8192.0,), (8192.0, 32768.0))
    with pytest.raises(ValueError, match="a bytes is not a name"):
        qsjax.Problem(b"llama-3.1-8b", "h100-sxm")


def test_values_of_an_axis_that_are_there_twice_count_once():
    """GPU counts did, and other axes made two cells, of which `sel` gave both."""
    axes = {"hbm_bw": [3e12, "3TB/s", 4e12], "tp": [1, 1]}
    found = qsjax.explore(qsjax.Problem("llama-3.1-8b", GPU, gpus=1, context="8k", axes=axes))
    assert found.dataset["tpot"].sel(hbm_bw=3e12).ndim == 0


def test_shapes_that_do_not_meet_are_told():
    for ask, name in ((qsjax.decode, "context"), (qsjax.prefill, "prompt")):
        many = {"batch": [1, 2, 3]} if name == "context" else {"prompts": [1, 2, 3]}
        with pytest.raises(ValueError, match=rf"shapes of .*{name} \(2,\).* do not broadcast"):
            ask("llama-3.1-8b", GPU, **{name: [1024, 2048]}, **many)


def test_an_ideal_accelerator_says_so():
    """Beside the real one both were numbered: "b200-sxm 1", "b200-sxm 2"."""
    both = [qsjax.hardware("b200"), qsjax.ideal("b200")]
    found = qsjax.Problem("llama-3.1-8b", both, gpus=1, context="8k").stated.accelerators
    assert [one.name for one in found] == ["b200-sxm", "b200-sxm, ideal"]
    assert qsjax.ideal(both[1]).label == "b200-sxm, ideal"


def test_thousands_of_users_are_no_binary_ones():
    """`users="5k"` were 5,120 people, and `--users 1k` 1,024."""
    asked = qsjax.Problem("qwen3-8b", "h100-sxm")
    for ask in (qsjax.size, qsjax.simulate):
        with pytest.raises(ValueError, match="users: '5k' is not a number; give a number above 0"):
            ask(asked, users="5k", isl=1000, osl=100)
    for verb, option in (("simulate", "--users"), ("simulate", "--rate"), ("size", "--rate")):
        line = [verb, "qwen3-8b", option, "1k", "--isl", "1000", "--osl", "100"]
        refused = CliRunner().invoke(cli, line)
        assert refused.exit_code == 2
        assert refused.output.endswith("'1k' is not a list of numbers; write for example 1,2,4\n")


def test_rates_have_their_units_in_python_too():
    """`rate="120/min"` was read at the prompt alone."""
    asked = qsjax.Problem("qwen3-8b", "h100-sxm", gpus=1)
    rates = ("120/min", ["2 req/s"], 2, "1, 7200/h")
    made = [
        qsjax.simulate(asked, rate=rate, isl=1000, osl=10, requests=20).frame()["load"].tolist()
        for rate in rates
    ]
    assert made == [[2.0], [2.0], [2.0], [1.0, 2.0]]


def test_quantiles_name_their_unit_where_a_notebook_shows_no_title():
    """ "Times in ms" stood above the table at the prompt alone."""
    asked = qsjax.Problem("qwen3-8b", "h100-sxm", gpus=1)
    page = qsjax.simulate(asked, users=2, isl=1000, osl=10, requests=20)._repr_html_()
    assert page.count("<th>TTFT p50 ms</th>") == page.count("<th>E2E p50 ms</th>") == 1


def test_a_trace_without_rows_has_its_columns():
    """It was told to lack them."""
    empty = pd.DataFrame({"arrival": [], "isl": [], "osl": []})
    with pytest.raises(ValueError, match="trace: there is no row below the heading"):
        qsjax.simulate(qsjax.Problem("qwen3-8b", "h100-sxm", gpus=1), trace=empty)


def test_flags_that_are_not_read_are_told_before_the_answer():
    """`--brand-new 8` was told in the 56th line, and in Python nowhere."""
    found = qsjax.explain_command("vllm serve Qwen/Qwen3-8B --brand-new 8", "h100-sxm")
    (note,) = found.cautions()
    assert note.startswith("Note: not read, though it may change memory or time: --brand-new;")
    assert note not in found.remarks()
    with pytest.raises(ValueError, match="did you mean --tensor-parallel-size"):
        qsjax.explain_command("vllm serve Qwen/Qwen3-8B --tensor-parralel 8", "h100-sxm")


def test_degrees_in_place_of_those_of_a_command_line_are_told():
    """`explain MODEL --tp 8 -- vllm serve MODEL -tp 4` was 8 without a word."""
    line = "vllm serve Qwen/Qwen3-8B -tp 4 --max-num-seqs 16"
    found = qsjax.explain_command(line, "h100-sxm", design={"tp": 8, "batch": 16})
    told = [remark for remark in found.remarks() if "in place of" in remark]
    assert told == ["Note: tp=8 is given in place of the command line's 4."]
    assert "in place of" not in str(qsjax.explain_command(line, "h100-sxm").remarks())


@pytest.mark.parametrize(
    ("cost", "budget", "says"),
    [
        (qsjax.CostModel({"hbm_bw": qsjax.Price(1.0)}), "2", "budget: '2' is not a number"),
        (qsjax.CostModel({"hbm_bw": qsjax.Price("1")}), 2, "hbm_bw: '1' is not a number"),
        (qsjax.CostModel({"hbm_bw": qsjax.Price(1, "2")}), 2, "hbm_bw: '2' is not a number"),
        (
            qsjax.CostModel({"hbm_bw": qsjax.Price(1.0)}, base=[1]),
            2,
            r"base: \[1\] is not",
        ),
    ],
)
def test_costs_that_are_no_numbers_are_told(cost, budget, says):
    """They were a TypeError of Python or NumPy."""
    with pytest.raises(ValueError, match=says):
        qsjax.design(qsjax.Problem("qwen3-8b", GPU, gpus=1, context="8k"), cost, budget=budget)


@pytest.mark.parametrize("folder", [None, "", 5])
def test_results_are_saved_into_a_folder_that_has_a_name(folder, tmp_path, monkeypatch):
    """A number was a TypeError, and an empty text the folder one stands in."""
    monkeypatch.chdir(tmp_path)
    found = qsjax.explore(qsjax.Problem("qwen3-8b", GPU, gpus=1, context="8k"))
    with pytest.raises(ValueError, match="is not the name of a folder; give one, as results/mine"):
        found.save(folder)
    assert not [*tmp_path.iterdir()]


def test_lists_in_place_of_numbers_of_a_record_are_told():
    for given in ((MODEL.replace(layers=[16, 32]), GPU), (MODEL, GPU.replace(hbm_bw=[1e12, 2e12]))):
        with pytest.raises(ValueError, match="is a list; give one number, or a list in axes"):
            qsjax.Problem(*given, gpus=8)


@pytest.mark.parametrize("ask", [qsjax.decode, qsjax.prefill])
def test_reasons_are_no_value_of_a_transformation(ask):
    def words(length):
        return ask("llama-3.1-8b", "h100-sxm", qsjax.Partition(), **{key: length}).reasons

    key = "context" if ask is qsjax.decode else "prompt"
    with pytest.raises(ValueError, match="reasons are names, which jit, vmap and grad cannot hold"):
        jax.jit(words)(8192.0)


@pytest.mark.parametrize("none", [None, "none", (), [], np.array([])])
def test_no_twins_are_written_in_python_as_at_the_prompt(none):
    assert qsjax.Problem(MODEL, GPU, gpus=8, context="8k", twins=none).stated.twins == ()


def test_an_unknown_objective_is_told_with_the_nearest_ones():
    with pytest.raises(ValueError, match="'tokens_per_gpu' is not a metric; did you mean tok"):
        qsjax.Problem(MODEL, GPU, gpus=[8], context=[8192.0], objective="tokens_per_gpu")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("glm-4.6", ["Note: glm-4.6 has the shape of glm-4.5, under whose name it counts."]),
        ("meta-llama/Llama-3.1-70B-Instruct", []),
        ("llama3.1:70b", []),
        (qsjax.model("glm-4.5"), []),
    ],
)
def test_a_model_that_counts_under_another_name_is_told(name, told):
    asked = qsjax.Problem(name, "h200-sxm", gpus=8, context="8k")
    assert qsjax.explore(asked).cautions() == told


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("exlpore mixtral-8x7b", "no verb 'exlpore'; did you mean explore"),
        ("explore mixtral-8x7b --max-tpot 30ms", "no --max-tpot; it is an option of pareto"),
        ("models qwen3", "'qwen3'; `qsjax models` lists all, `qsjax models show qwen3` shows one"),
        ("explore mixtral-8x7b --tpot 30ms", "have --max-tpot, `size` and `simulate` --tpot"),
        ("mix mixtral-8x7b --trace a.csv", "mix has no --trace: `mix` takes the file by itself"),
        ("explore mixtral-8x7b --rate 3/s", "explore has no --rate; it is an option of simulate"),
        ("explore mixtral-8x7b --xyzzyx 3", "`qsjax explore --help` lists what it has"),
        ("explore mixtral-8x7b llama-3.1-8b", "explore takes MODEL; `qsjax compare` takes several"),
        ("pareto mixtral-8x7b --min-user-rate 50ms", "'50ms' is not a number"),
        ("app mixtral-8x7b --port abc", "'abc' is not a whole number"),
        ("explore README.md", "the file of this name is none that is read"),
        ("compare qwen3-8b:tp=8 qwen3-8b", "; `qsjax explain qwen3-8b --tp 8` tells"),
        ("break-even qwen3-8b --parameter hbm_bw --target tpot=20ms", "named by itself (--metric)"),
        ("design qwen3-8b --target 20ms --price hbm_bw=1", "named by itself (--metric)"),
        ("simulate qwen3-8b --users 1k..4k --isl 9 --osl 9", "'1k..4k' is not a list of numbers"),
        ("explore zzzz", "`qsjax models` lists the "),
        ("explain run.sh", "run.sh: cannot be read: No such file or directory\n"),
        ("explain --hardware h200 k8s/no.yaml", "k8s/no.yaml: cannot be read: No such file"),
        ("explore /nowhere/config.json", "cannot be read: No such file or directory\n"),
        ("calibrate nowhere.csv", "nowhere.csv: cannot be read: No such file or directory\n"),
        ("explore mixtral-8x7b --hardware no.toml", "no.toml: cannot be read: No such file"),
        (
            "explore mixtral-8x7b --hardware 2xH100-80GB --gpus 4",
            "--gpus says how many; write --hardware H100-80GB",
        ),
        (
            "explain --model mixtral-8x7b --hardware h100",
            "has no --model: the model stands by itse",
        ),
        ("explore mixtral-8x7b --gpus 8 --gpus 16", "--gpus is given twice; give it once"),
        ("explore mixtral-8x7b --engine vllm,sglang", "'vllm,sglang' is not one of 'vllm'"),
        ("size mixtral-8x7b --users 9 --gpus 8", "size has no --gpus: `simulate` counts"),
        ("size mixtral-8x7b --users 9 --disaggregated", "`size --prefill-hardware NAME` has"),
        ("break-even llama-3.1-70b --parameter hbm_bw", "to compare with; give a target"),
        (
            "sensitivity mixtral-8x7b --gpus 8 --uncertain hbm_bw=normal:3.35,0.1",
            "hbm_bw: 3.35 B/s is none of an accelerator; 1 TB/s is 1e12",
        ),
        ("explore mixtral-8x7b --context 131,072", "may be one number: write 131072"),
        ("pareto mixtral-8x7b --context 16,384", "may be one number: write 16384"),
        (
            "explore mixtral-8x7b --hardware h100,H100-SXM",
            "'h100' and 'H100-SXM' are both h100-sxm; give one of them",
        ),
        ("compare deepseek-v3 deepseek-r1", "are both deepseek-v3 on h100-sxm; give one of"),
        ("compare mixtral-8x7b mixtral-8x7b", "needs at least two different subjects"),
        ("explain mixtral-8x7b --weights AWQ", "which the model's name tells: MODEL-awq"),
        ("explain mixtral-8x7b --weights Q4_K_M", "which the model's name tells: MODEL-q4_k_m"),
        ("explain -- llama-server -m a.gguf", "or MODEL with --tp, --batch and --context alone"),
        ("explain mixtral-8x7b --weights fp7", "'fp7' is not one of 'bf16', 'fp8', 'fp4'"),
        ("explain mixtral-8x7b --hardware h100,h200", "give one; `qsjax compare` takes several"),
        ("models show Qwen9-32B-Q4_K_M.gguf", "a file of weights; give the config.json"),
        ("models show a/Qwen3-32B-GGUF", "qwen3-32b is known, and a name tells the type"),
        ("explain mixtral-8x7b --gpus 8xH100", "write --hardware H100 --gpus 8"),
        (
            "size mixtral-8x7b --hardware 8xH100",
            "the degrees say how many; write --hardware",
        ),
        ("compare mixtral-8x7b --hardware 8xH100,h200", "it counts 8 of h100-sxm: give that name"),
        ("explain mixtral-8x7b --hardware H100-40GB", "unknown accelerator 'H100-40GB'; did you"),
        ("simulate mixtral-8x7b --rate 2/d", "'2/d' is not a list of numbers"),
        ("simulate mixtral-8x7b --engine tgi", "is not one of 'vllm', 'sglang', 'trtllm'"),
        (
            "explain --hardware mi300x -- trtllm-serve Qwen/Qwen3-8B",
            "TensorRT-LLM does not run on mi300x; give another --hardware",
        ),
        (
            "explain mixtral-8x7b -- vllm server m",
            "'server' is not a command of vllm; did you mean",
        ),
        ("size mixtral-8x7b --isl 1k --osl 100", "users, rate: none is given; give one of them"),
        ("prefix-cache mixtral-8x7b --reuse-interval -3", "'-3' is not allowed; give a time above"),
        (
            "compare mixtral-8x7b mixtral-8x7b@h100-sxm:hbm_bw=-3",
            "'hbm_bw=-3' is not a change; write",
        ),
        ("compare mixtral-8x7b mixtral-8x7b:q=5s", "'q=5s' is not a change; write"),
        ("compare mixtral-8x7b mixtral-8x7b@h100-sxm:hbm_bw=6TB", "'hbm_bw=6TB' is not a change"),
        ("explain mixtral-8x7b:kv=fp8", "kv is not known; give some of q, or the option --kv"),
        (
            "explain Qwen3-8B-GGUF:Q9_K",
            "a name tells the type of a GGUF file: Qwen3-8B-GGUF:Q4_K_M",
        ),
        (
            "compare mixtral-8x7b mixtral-8x7b@h100-sxm:intra_latency=x2us",
            "'intra_latency=x2us' is not a change; write",
        ),
        (
            "compare mixtral-8x7b mixtral-8x7b:acceptance=2",
            "acceptance=2.0, drafts=1 is not allowed",
        ),
    ],
)
def test_a_mistake_at_the_prompt_says_what_would_mend_it(line, says, monkeypatch):
    monkeypatch.chdir(ROOT)
    done = CliRunner().invoke(cli, line.split())
    assert done.exit_code == 2
    assert says in done.output
    assert "Traceback" not in done.output
    assert len(done.output.splitlines()) <= 6


def asked(**more):
    given = {"hardware": GPU, "gpus": [8], "context": [8192.0], "twins": 5} | more
    return qsjax.Problem(MODEL, **given)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: asked(limits=qsjax.Limits(max_tpot="50m")), "max_tpot: '50m' is not a number"),
        (
            lambda: qsjax.Problem(["qwen3-4b", "Qwen3-4B-Instruct-2507"], GPU),
            "model: 'qwen3-4b' and 'Qwen3-4B-Instruct-2507' are both qwen3-4b; give one of them",
        ),
        (lambda: asked(economy=2.5), "economy: a float was given; give {.usd_per_hour"),
        (lambda: asked(economy={"usd_per_hour": "2"}), "usd_per_hour: '2' is not allowed"),
        (lambda: asked(objective=["tpot"]), r"\['tpot'\] is not a metric"),
        (lambda: asked(batch="biggest"), "batch: 'biggest' is not known; give largest, best, or"),
        (lambda: qsjax.design(asked(), {"hbm_bw": 3}, budget=9), "cost: a dict is not a CostModel"),
        (lambda: qsjax.study(asked(), ["physic"]), "conventions: physic not known; give physical"),
    ],
)
def test_a_mistake_in_python_says_what_would_mend_it(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_lengths_of_requests_are_read_as_contexts_are():
    one = qsjax.Problem(MODEL, GPU, gpus=8, context="8k")
    assert qsjax.explain(one, requests=("4k", "1k")).requests == (4096.0, 1024.0)
    found = qsjax.explain_command("vllm serve Qwen/Qwen3-8B", "h100-sxm", requests=("4k", "1k"))
    assert found.problem.stated.contexts == (4608.0,)
    # Where a problem states no context, it is theirs in Python too: compare took 32k.
    for ask in (qsjax.explain, qsjax.compare):
        free = qsjax.Problem(MODEL, [GPU, "h200-sxm"][: 1 + (ask is qsjax.compare)], gpus=8)
        assert ask(free, requests=("4k", "1k")).problem.stated.contexts == (4608.0,)


def test_times_are_texts_with_units_in_python_too():
    assert qsjax.Limits(max_tpot="50ms").max_tpot == 0.05
    assert qsjax.Limits(max_tpot="0s").max_tpot == 0.0  # and is told as a limit that allows nothing
    with pytest.raises(ValueError, match="max_tpot: '50 m' is not a number"):
        qsjax.pareto(qsjax.Problem(MODEL, GPU, gpus=8, limits=qsjax.Limits(max_tpot="50 m")))
    few = {"isl": 9, "osl": 9, "quantile": 0.5, "replica_gpus": [2]}
    found = qsjax.size(SMALL, users=1, ttft="2s", tpot="50ms", think="1ms", **few)
    assert (found.target.ttft, found.target.tpot) == (2.0, 0.05)


def test_a_traced_number_of_a_problem_is_told():
    """It ended in an error of JAX, deep in the search."""
    with pytest.raises(ValueError, match="hardware: a traced value is no number to search by"):
        jax.grad(lambda x: float(asked(hardware=GPU.replace(hbm_bw=x)).stated.gpus[0]))(3e12)


@pytest.mark.parametrize(
    ("ask", "name"),
    [
        (lambda x: qsjax.size(SMALL, users=x, isl=9, osl=9), "users"),
        (lambda x: qsjax.simulate(SMALL, rate=1, scheduler={"budget": x}), "scheduler"),
        (lambda x: qsjax.explain(SMALL, qsjax.Partition(tp=x)), "partition"),
        (lambda x: qsjax.moe_or_dense(SMALL, [x]), "tpots"),
        (lambda x: qsjax.speculate(SMALL, acceptance=x), "acceptance"),
        (lambda x: qsjax.certify(SMALL, {"hbm_bw": x}), "box"),
        (lambda x: qsjax.uncertainty(SMALL, {"q": qsjax.normal(x, 1)}), "distributions"),
        (lambda x: qsjax.design(SMALL, qsjax.CostModel({"hbm_bw": qsjax.Price(x)}), 9), "cost"),
        (lambda x: qsjax.served(MODEL, acceptance=x), "acceptance, drafts"),
        (lambda x: asked(limits=qsjax.Limits(max_usd=x)), "limits"),
        (lambda x: asked(economy={"watts": x}), "economy"),
        (lambda x: asked(workload={"bytes_kv": x}), "workload"),
    ],
)
def test_a_traced_argument_of_a_question_is_told(ask, name):
    """Each ended in an error of JAX about arrays."""
    with pytest.raises(ValueError, match=f"{name}: a traced value is no number to search by"):
        jax.jit(ask)(0.5)


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (
            lambda: qsjax.dense_twin("llama-3.1-70b", 3),
            "llama-3.1-70b has no experts, so it has no",
        ),
        (
            lambda: qsjax.size_apart(SMALL, rate=1, isl=9, osl=1),
            "osl: one token comes with the pro",
        ),
        (
            lambda: qsjax.speculate(SMALL, acceptance=[0.5, 0.6]),
            r"acceptance: \[0.5, 0.6\] is a list",
        ),
        (lambda: qsjax.compare(SMALL, {"A": 1}), "subjects: A: no Subject; give qsjax.Subject"),
        (lambda: asked(engine="vllm,sglang"), "engine: 'vllm,sglang' is not allowed"),
    ],
)
def test_what_was_answered_or_ended_in_an_error_of_python_is_told(ask, says):
    with pytest.raises(ValueError, match=says):
        ask()


def test_engines_are_spelt_in_python_as_at_the_prompt():
    spelt = {"vLLM": "vllm", "TensorRT-LLM": "trtllm", "sglang": "sglang", None: "", "": ""}
    assert {text: asked(engine=text).engine for text in spelt} == spelt


def test_dtypes_are_spelt_in_python_as_at_the_prompt():
    for weights, kv in (("fp8", "fp8"), ("float8", "FP8_e4m3"), ("FP8", "e5m2")):
        work = asked(weights=weights, kv=kv).stated.models[0].workload
        assert work == asked(weights="fp8", kv="fp8").stated.models[0].workload
        named = qsjax.workload("mixtral-8x7b", weights, kv)
        assert named == qsjax.workload("mixtral-8x7b", "fp8", "fp8")
        assert qsjax.served("mixtral-8x7b", weights=weights, kv=kv).workload == work
        command = {"command": "vllm serve mistralai/Mixtral-8x7B -tp 2", "hardware": "h100-sxm"}
        found = qsjax.explain_command(**command, weights=weights, kv=kv)
        assert found.problem.stated.models[0].workload.bytes_kv == 1.0


def test_a_count_that_is_told_twice_is_told_once():
    said = CliRunner().invoke(cli, "explain mixtral-8x7b --gpus 8 --tp 4 --pp 4".split()).output
    assert "give 16 GPUs, or other degrees" in said


class TestWorkload:
    def test_it_has_the_precisions_that_a_model_is_published_in(self):
        assert qsjax.workload("mixtral-8x7b").bytes_ffn_weight == 2.0
        assert qsjax.workload("mixtral-8x7b").ffn_dtype == "bf16"
        assert qsjax.workload("deepseek-v3").bytes_ffn_weight == 1.0
        assert qsjax.workload("mixtral-8x7b", weights="fp8", kv="fp8").bytes_kv == 1.0

    def test_without_it_python_and_the_command_line_agree(self):
        row = qsjax.explore(qsjax.Problem(MODEL, GPU, gpus=[8], context=[8192.0])).rows()[0]
        flags = ["--gpus", "8", "--context", "8k", "--hardware", "h100-sxm", "--format", "json"]
        said = CliRunner().invoke(cli, ["explore", "mixtral-8x7b", *flags]).stdout
        assert json.loads(said)["best"][0]["tpot"] == row["tpot"]

    def test_an_unknown_dtype_is_told_with_the_known_ones(self):
        with pytest.raises(ValueError, match="dtype 'int4' is unknown; give one of bf16, fp8, fp4"):
            qsjax.workload("mixtral-8x7b", weights="int4")
