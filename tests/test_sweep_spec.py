"""The file of a sweep: every mistake named at its line, and what a good one asks for."""

from pathlib import Path

import numpy as np
import pytest

from qsjax.catalog import toml
from qsjax.records.specs import PAPER
from qsjax.streaming import asked, spec

GOOD = """\
[sweep]
models = ["mixtral-8x7b"]
hardware = ["h100-sxm"]

[axes]
gpus = [8, 16]
context = {from = 1024, to = 1048576, steps = 11, scale = "log"}
q = {from = 2, to = 3, step = 0.25}
"""


def parsed(text, source="sweep"):
    return spec.asked_in(toml.parse(text, source))


def job_of(text):
    """The job and the axes of a file."""
    return asked.job_of(*parsed(text))


def values(text):
    """The labels of every axis of a file, by name."""
    return {a.name: list(a.names or a.values) for a in job_of(text)[1].all}


def problems(text):
    with pytest.raises(ValueError, match="study") as caught:
        parsed(text, "study.toml")
    return str(caught.value)


def test_axes_are_lists_ranges_and_divisors():
    axes = values(GOOD)
    np.testing.assert_array_equal(axes["context"], 1024 * 2.0 ** np.arange(11))
    assert axes["q"] == [2.0, 2.25, 2.5, 2.75, 3.0]
    assert axes["tp"] == [1, 2, 4, 8, 16]
    assert axes["kv_mode"] == ["kvp", "cp"]
    assert values(GOOD + "tp = 4\n")["tp"] == [4.0]
    linear = GOOD + "hbm_bw = {from = 1e12, to = 3e12, steps = 3}\n"
    assert values(linear)["hbm_bw"] == [1e12, 2e12, 3e12]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("q =", "hbm_bandwidth =", ["line 8", "hbm_bandwidth", "did you mean hbm_bw"]),
        ("models", "model", ["line 2: model", "did you mean models", "nothing was given"]),
        ("[axes]", "[axis]", ["line 5", "unknown table", "did you mean axes"]),
        ('["h100-sxm"]', "7", ["line 3", "7 is not allowed", "list of names"]),
        ("from = 1024, to = 1048576", "from = 9, to = 3", ["line 7", "runs backwards", "swap"]),
        ("step = 0.25", "step = 0", ["line 8", "step 0", "above 0"]),
        ("steps = 11", "steps = 2.5", ["line 7", "steps 2.5", "whole number"]),
        ('"log"', '"cubic"', ["line 7", "cubic", "linear"]),
        ("from = 1024, to", "from = 0, to", ["line 7", "logarithmic", "0"]),
        ("[8, 16]", "[8, 8]", ["line 6", "8 is there twice"]),
        ("[8, 16]", "[8.5]", ["line 6", "8.5", "whole number"]),
        ("[8, 16]", '["many"]', ["line 6", "'many' is not a number"]),
        ("q =", "gpus =", ["line 8: gpus: given twice, first on line 6"]),
        ("q =", "q = = ", ["line 8", "q = = "]),
        ("step = 0.25", "stride = 0.25", ["line 8", "stride", "is not a range"]),
        ("context =", "batch =", ["context", "is missing"]),
        ("[8, 16]", "[]", ["line 6", "no value was given"]),
        ("[8, 16]", "1e12", ["line 6", "1e+12", "from 1 to 1e+09"]),
        ("step = 0.25", "step = 1e-9", ["line 8", "1,000,000,000 values", "fewer"]),
        ("steps = 11", "steps = 1000000000000", ["line 7", "1,000,000,000,000 values"]),
        ("to = 3", "to = inf", ["line 8", "finite"]),
        ("from = 1024", "from = nan", ["line 7", "finite"]),
        ("q =", "Q =", ["line 8", "did you mean q"]),
        ("q =", 'kv_mode = [["kvp"]] #', ["line 8", "['kvp']", "none, kvp, cp"]),
        ("q =", "kv_mode = [] #", ["line 8", "nothing is not a KV mode"]),
        ("q =", 'kv_mode = ["cp", "cp"] #', ["line 8", "'cp' is there twice"]),
        ('["h100-sxm"]', '["h100-sxm", "h100-sxm"]', ["line 3", "'h100-sxm' is there twice"]),
        ("[axes]", "twins = [3, 0]\n[axes]", ["line 5", "twins: 0", "above 0"]),
        ("[axes]", "twins = [3, 3]\n[axes]", ["line 5", "3 is there twice"]),
        ("[axes]", "[workload]\nbytes_kv = -1\n[axes]", ["line 6", "-1", "above 0"]),
        ("[axes]", "[workload]\nbytes_kv = nan\n[axes]", ["line 6", "nan", "a number"]),
        ("[axes]", "[constraints]\nmax_tpot = inf\n[axes]", ["line 6", "inf", "a number"]),
        ("[axes]", "[outputs]\ntop_k = 1000000\n[axes]", ["line 6", "from 0 to 100000"]),
    ],
)
def test_a_mistake_is_named_at_its_line(old, new, said):
    assert old in GOOD
    message = problems(GOOD.replace(old, new, 1))
    for part in said:
        assert part in message, message


def test_every_mistake_is_told_at_once():
    text = GOOD.replace("[8, 16]", "[0]").replace("step = 0.25", "step = -1")
    message = problems(text + "[outputs]\ntop_k = -3\n[constraints]\nmax_speed = 1\n")
    assert [f"line {n}:" in message for n in (6, 8, 10, 12)] == [True] * 4, message
    assert "known: min_tokens_per_s_per_gpu" in message


def test_no_design_can_keep_two_bounds_that_contradict_each_other():
    message = problems(GOOD + "[constraints]\nmax_tpot = 0.01\nmin_tpot = 0.1\n")
    assert "line 11: min_tpot: 0.1 exceeds max_tpot = 0.01" in message


def test_unknown_names_are_told_with_everything_else():
    text = GOOD.replace("mixtral-8x7b", 'mixtrol-8x7b", "nowhere').replace("h100-sxm", "h100-smx")
    text = text.replace("[8, 16]", "[0]")
    with pytest.raises(ValueError, match="did you mean mixtral-8x7b") as caught:
        parsed(text, "study.toml")
    for part in ("line 2: models: unknown", "'nowhere'", "line 3", "h100-sxm", "line 6"):
        assert part in str(caught.value)


def test_long_lists_are_read_at_once_and_ranges_of_one_number_are_one_value():
    many = ", ".join(map(str, range(1, 100_001)))
    axes = values(GOOD.replace("{from = 1024, to = 1048576, steps = 11", f"[{many}] #"))
    assert len(axes["context"]) == 100_000
    same = values(GOOD.replace("from = 2, to = 3, step = 0.25", "from=2, to=2, steps=5"))
    assert same["q"] == [2.0]


def test_divisors_of_many_gpus_are_quick():
    assert len(values(GOOD.replace("[8, 16]", "[720720000]"))["tp"]) == 960


def test_a_file_of_another_editor(tmp_path):
    path = tmp_path / "study.toml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    problem, options = spec.asked_in(toml.read(path))
    own, same = parsed(GOOD)
    assert (repr(problem), options) == (repr(own), same)
    path.write_bytes(b"\xff\xfe no text")
    with pytest.raises(ValueError, match=r"study\.toml: cannot be read: .*utf-8"):
        spec.asked_in(toml.read(path))


def test_fields_that_contradict_each_other_where_axes_meet():
    text = GOOD.replace("q =", "top_k = [2, 16] #") + "overlap_tp = 0.9\noverlap_ep = [0, 0.9]\n"
    message = problems(text)
    assert "top_k: 16 exceeds the 8 experts" in message
    assert "sum exceeds 1" in message
    faster = GOOD + "query_tokens = 2\ntokens_per_step = [1, 2.5]\n"
    assert "tokens_per_step: 2.5 exceeds the 2 query_tokens" in problems(faster)


def test_kv_modes_and_workload_are_checked():
    assert "line 9" in problems(GOOD + 'kv_mode = ["ring"]\n')
    message = problems(GOOD + '[workload]\nffn_dtype = "int4"\nbytes_kvs = 1\ncontext = 3\n')
    for part in ("ffn_dtype", "fp8", "bytes_kvs", "bytes_kv", "is an axis too"):
        assert part in message


def test_numbers_out_of_bounds_are_named():
    text = GOOD + "[workload]\nbytes_kv = -1\nkv_block = 0\nquery_tokens = nan\n"
    message = problems(text + "[constraints]\nmax_tpot = nan\n")
    for part in ("line 10: bytes_kv", "line 11", "line 12", "line 14", "above 0"):
        assert part in message, message


def test_only_mixtures_of_experts_have_twins():
    both = 'models = ["mixtral-8x7b", "llama-3.1-8b"]'
    text = GOOD.replace('models = ["mixtral-8x7b"]', both)
    with pytest.raises(ValueError, match=r"q: .* no experts .* llama-3.1-8b; drop"):
        parsed(text)
    text = text.replace("q = {from = 2, to = 3, step = 0.25}", "").replace(
        "[axes]", "twins = [3]\n[axes]"
    )
    named = values(text)["model"]
    assert named == ["mixtral-8x7b", "mixtral-8x7b dense q=3", "llama-3.1-8b"]


def test_precisions_are_those_of_the_model_or_those_stated():
    def workload(text):
        return job_of(text)[0].records.workload

    own = workload(GOOD)
    assert (own.bytes_ffn_weight, own.ffn_dtype) == (2.0, "bf16")
    stated = workload(GOOD + '[workload]\nweights = "fp8"\nkv = "fp8"\nbytes_act = 1\n')
    assert (stated.bytes_ffn_weight, stated.bytes_attn_weight, stated.ffn_dtype) == (1, 1, "fp8")
    assert (stated.bytes_kv, stated.bytes_act) == (1.0, 1.0)

    two = GOOD.replace('["mixtral-8x7b"]', '["mixtral-8x7b", "deepseek-v3"]')
    said = r"mixtral-8x7b in bf16, deepseek-v3 in fp8.*proj_dtype; set weights to one"
    with pytest.raises(ValueError, match=said):
        workload(two)
    assert workload(two + '[workload]\nweights = "fp8"\n').bytes_ffn_weight == 1.0
    own_bytes = workload(two + '[workload]\nproj_dtype = "bf16"\nffn_dtype = "bf16"\n')
    assert np.asarray(own_bytes.bytes_ffn_weight).tolist() == [2.0, 1.0]


def test_what_a_file_asks_for():
    text = GOOD.replace("q =", "hbm_bw =").replace(
        "from = 2, to = 3, step = 0.25", "from = 1e12, to = 2e12, steps = 2"
    )
    text = text.replace(
        "[axes]", 'twins = [3, 5]\nconvention = "paper"\nobjective = "tpot"\n[axes]'
    )
    text += (
        "[constraints]\nmax_tpot = 0.1\nmin_tpot = 0.001\n[outputs]\ntop_k = 3\nwinners = false\n"
    )
    problem, options = parsed(text)
    job, axes = asked.job_of(problem, options)
    wanted = options.outputs
    assert job.convention == PAPER
    assert job.objective == "tpot"
    assert dict(job.bounds) == {"tpot": (0.001, 0.1)}
    assert (wanted.top_k, wanted.winners, wanted.pareto) == (3, False, False)
    names = {axis.name: axis.names for axis in axes.kept}
    assert names["model"] == ("mixtral-8x7b", "mixtral-8x7b dense q=3", "mixtral-8x7b dense q=5")
    assert np.asarray(job.records.model.experts).tolist() == [8.0, 1.0, 1.0]
    assert {a.name for a in axes.searched} == {"tp", "ep", "pp", "dp", "kvp", "kv_mode"}


def test_an_unknown_model_is_named():
    text = GOOD.replace("mixtral-8x7b", "mixtrol-8x7b")
    with pytest.raises(ValueError, match="mixtral-8x7b"):
        parsed(text)


def test_the_file_of_the_guide_is_valid():
    guide = Path(__file__).parent.parent / "docs" / "guides" / "sweeps.md"
    text = guide.read_text(encoding="utf-8").split("```toml\n")[1].split("```")[0]
    assert set(spec.KEYS) == {"sweep", "axes", "workload", "constraints", "outputs"}
    problem, options = parsed(text)
    job, axes = asked.job_of(problem, options)
    assert options.outputs.pareto
    assert job.statistics == ("tpot",)
    assert axes.cells > 10**9
