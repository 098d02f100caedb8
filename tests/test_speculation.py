"""Speculation: the geometric law, drafts by the laws of the step, the engines' flags."""

import dataclasses
import itertools
import math

import jax
import numpy as np
import pytest
from click.testing import CliRunner
from tolerances import EXACT, FINITE_DIFFERENCE

import qsjax as qs
from qsjax import Partition, Problem
from qsjax.cli import cli
from qsjax.cost.decode import decode_step
from qsjax.cost.laws.params import total_params
from qsjax.cost.ledger import time_ledger
from qsjax.cost.speculation import (
    accepted_tokens,
    draft_bytes,
    draft_model,
    draft_seconds,
    layer_params,
    speculated,
)
from qsjax.engines import read
from qsjax.records.specs import PHYSICAL, Records


def records(model="llama-3.1-8b", gpu="h100-sxm", batch=8.0, **degrees):
    work = dataclasses.replace(qs.workload(model), context=4096.0, batch=batch)
    plain = Records(qs.model(model), qs.hardware(gpu), Partition(**degrees), work)
    return jax.tree.map(lambda x: np.asarray(x, float), plain)


@pytest.mark.parametrize(
    ("acceptance", "drafts"), list(itertools.product([0.0, 0.3, 0.8, 0.99, 1.0], [1, 3, 7]))
)
def test_accepted_tokens_are_those_of_a_chain_of_coins(acceptance, drafts):
    # Of k drafts exactly n are accepted with chance a^n (1 - a), all with a^k; one token more.
    chances = [acceptance**n * (1 - acceptance) for n in range(drafts)] + [acceptance**drafts]
    expected = sum((n + 1) * chance for n, chance in enumerate(chances))
    assert math.isclose(sum(chances), 1.0)
    assert float(accepted_tokens(acceptance, drafts)) == pytest.approx(expected, rel=1e-12)


def test_slopes_of_the_accepted_tokens():
    slope = jax.grad(accepted_tokens)(0.8, 3.0)
    step = 1e-6
    up, down = (float(accepted_tokens(0.8 + s, 3.0)) for s in (step, -step))
    assert float(slope) == pytest.approx((up - down) / (2 * step), rel=FINITE_DIFFERENCE)
    assert all(np.isfinite(jax.grad(accepted_tokens)(a, 3.0)) for a in (0.0, 1.0))


def test_the_draft_of_deepseek_is_a_layer_of_its_own_kind():
    model = qs.model("deepseek-v3")
    draft = draft_model(model, "mtp")
    # 256 experts and a shared one of 3 * 7168 * 2048 parameters, and 2 * 7168^2 of the projection.
    experts = 257 * 3 * 7168 * 2048
    own = float(layer_params(draft))
    assert experts + 2 * 7168**2 < own < 1.03 * (experts + 2 * 7168**2)
    # DeepSeek says that its MTP module has 11.5B parameters besides shared embedding and head.
    assert own == pytest.approx(11.5e9, rel=0.02)


def test_an_eagle_head_has_the_parameters_that_are_given():
    model = qs.model("llama-3.1-8b")
    assert float(layer_params(draft_model(model, "eagle", 0.4e9))) == pytest.approx(0.4e9, rel=1e-9)
    # Without: 2 * 4096^2 of the projection, attention of 41.9M, 3 * 4096 * 14336 of the network.
    own = 2 * 4096**2 + 4096 * 128 * (32 + 8 + 8 + 32) + 3 * 4096 * 14336
    assert float(layer_params(draft_model(model, "eagle"))) == pytest.approx(own, rel=1e-3)
    assert float(total_params(draft_model(model, "eagle"))) > own


def test_the_step_is_verification_and_drafts_over_what_is_accepted():
    own = records()
    found = speculated(own, PHYSICAL, "mtp", 0.7, 3)
    fast = decode_step(found._replace(gpus=None), PHYSICAL)
    draft = draft_model(own.model, "mtp")
    once = float(draft_seconds(draft, own, PHYSICAL))
    wide = dataclasses.replace(own.workload, query_tokens=4.0)
    verify = float(
        decode_step(Records(own.model, found.hardware, own.partition, wide), PHYSICAL).tpot
    )
    accepted = 1 + 0.7 + 0.7**2 + 0.7**3
    assert float(fast.tpot) == pytest.approx((verify + 3 * once) / accepted, rel=EXACT)
    terms = time_ledger(fast, found, PHYSICAL)
    assert sum(float(x) for x in terms.values()) == pytest.approx(float(fast.tpot), rel=EXACT)
    # A layer of 32 reads its weights and starts its kernels, and the head is read once more.
    plain = float(decode_step(own._replace(gpus=None), PHYSICAL).tpot)
    assert plain / 32 < once < plain / 4


def test_what_a_draft_holds_is_its_layer_and_the_cache_of_one():
    own = records(batch=64.0, tp=4.0)
    held, cache = draft_bytes(draft_model(own.model, "eagle"), own, PHYSICAL)
    # A layer of 16 bits on four GPUs; two heads of keys and values of 128, in blocks of tokens.
    layer = 2 * 4096**2 + 4096 * 128 * (32 + 8 + 8 + 32) + 3 * 4096 * 14336
    assert float(held) == pytest.approx(2.0 * layer / 4, rel=1e-3)
    assert float(cache) == pytest.approx(4096 * 2 * 2 * 128 * 2, rel=0.01)


def test_drafts_hold_memory_and_ngrams_do_not():
    own = records(batch=64.0)
    plain = float(decode_step(own._replace(gpus=None), PHYSICAL).capacity.max_batch)
    own = own._replace(gpus=None)
    drafting = [speculated(own, PHYSICAL, method, 0.7, 2) for method in ("mtp", "ngram")]
    mtp, ngram = (float(decode_step(one, PHYSICAL).capacity.max_batch) for one in drafting)
    assert mtp < plain == ngram
    assert float(speculated(own, PHYSICAL, "ngram", 0.7, 2).workload.draft_time) == 0.0


def test_without_accepted_drafts_speculation_only_costs():
    found = qs.speculate(Problem("llama-3.1-8b", "h100-sxm", gpus=1, context=4096), acceptance=0.0)
    assert all(row["gain"] < 1.0 for row in found.rows())
    assert "costs more than it gains" in found.summary()


def test_gain_against_batch_of_a_mixture_and_its_twin():
    problem = Problem("deepseek-v3", "h200-sxm", gpus=16, context=8192, twins=[1])
    found = qs.speculate(problem, acceptance=0.85)
    curves = {}
    for row in found.rows():
        curves.setdefault(row["variant"], []).append(row)
        assert row["gain"] == pytest.approx(row["tpot"] / row["tpot_speculated"], rel=EXACT)
        assert row["gain"] < row["tokens_per_step"] == pytest.approx(1.85)
    moe, dense = curves["moe"], curves["dense q=1"]
    # A dense model reads the same weights for two tokens; a mixture wakes other experts for them.
    assert dense[0]["gain"] > moe[0]["gain"]
    assert dense[-1]["gain"] < min(row["gain"] for row in dense[:-1])
    # Once all experts are read anyway, the mixture gains more again.
    assert max(row["gain"] for row in moe) > moe[2]["gain"] > moe[-1]["gain"]
    assert list(found.drawings()) == ["speculation"]
    both = dataclasses.replace(problem, hardware=["h200-sxm", "b200-sxm"], twins=())
    title = qs.speculate(both, acceptance=0.85).drawings()["speculation"].keywords["title"]
    assert title.startswith("deepseek-v3 on 16 h200-sxm at 8k, mtp, 1 draft: ")
    assert found.dataset["gain"].attrs["units"] == "1"


@pytest.mark.parametrize(
    ("model", "method", "is_told"),
    [
        ("qwen3-8b", "mtp", True),
        ("qwen3-8b", "eagle", False),
        ("qwen3.5-27b", "mtp", False),
        (qs.model("qwen3-8b"), "mtp", True),
    ],
)
def test_a_model_without_a_layer_that_drafts_is_told(model, method, is_told):
    asked = Problem(model, "h100-sxm", gpus=1, context=4096)
    found = qs.speculate(asked, qs.Partition(), method=method, batches=[1.0])
    assert ("no multi-token-prediction layer of qwen3-8b is known" in str(found)) == is_told


def test_explain_tells_a_model_without_a_layer_that_drafts():
    draft = '--speculative-config \'{"method": "%s", "num_speculative_tokens": 1}\''
    for method in ("mtp", "ngram"):
        line = f"vllm serve Qwen/Qwen3-8B {draft % method}"
        notes = qs.explain_command(line, "h100-sxm", context="4k").notes
        assert any("engines refuse mtp" in one for one in notes) == (method == "mtp")


def test_every_mistake_is_told_at_once():
    problem = Problem("llama-3.1-8b", "h100-sxm", gpus=1, context=4096)
    with pytest.raises(ValueError, match="speculate") as caught:
        qs.speculate(problem, acceptance=1.2, drafts=0, method="medusa", head_params=1e8)
    for name in ("acceptance", "drafts", "method", "head_params"):
        assert f"  {name}: " in str(caught.value)
    with pytest.raises(ValueError, match=r"one value for: gpus .*, context"):
        qs.speculate(Problem("llama-3.1-8b", "h100-sxm", gpus=[1, 2], context=["4k", "8k"]))


VLLM, SGLANG = "vllm serve m ", "python -m sglang.launch_server --model m "
FLAGS = {
    VLLM + "--speculative-config.method mtp --speculative-config.num_speculative_tokens 2": (
        *("mtp", 2, 3),
    ),
    VLLM + """--speculative-config '{"method": "eagle3", "num_speculative_tokens": 3}'""": (
        *("eagle", 3, 4),
    ),
    VLLM + """-sc '{"method": "ngram", "num_speculative_tokens": 4}'""": ("ngram", 4, 5),
    VLLM + "--spec-method mtp --spec-tokens 1": ("mtp", 1, 2),
    # Who drafts is told by the model where no method is given.
    VLLM + """--speculative-config '{"model": "ngram", "num_speculative_tokens": 5}'""": (
        *("ngram", 5, 6),
    ),
    VLLM + "--speculative-model '[ngram]' --num-speculative-tokens 5": ("ngram", 5, 6),
    VLLM + """-sc '{"model": "yuhuili/EAGLE3-LLaMA3.1", "num_speculative_tokens": 2}'""": (
        *("eagle", 2, 3),
    ),
    SGLANG + "--speculative-algo EAGLE --speculative-num-steps 3 --speculative-eagle-topk 1 "
    "--speculative-num-draft-tokens 4": ("mtp", 3, 4),  # without a model that drafts
    SGLANG + "--speculative-algo EAGLE --speculative-draft-model-path org/head": ("eagle", 3, 4),
    SGLANG + "--speculative-algorithm EAGLE --speculative-draft m": ("mtp", 3, 4),
    SGLANG + "--speculative-algorithm NEXTN --speculative-num-steps 1 "
    "--speculative-num-draft-tokens 2": ("mtp", 1, 2),
    SGLANG + "--speculative-algorithm EAGLE3 --speculative-num-steps 5 --speculative-eagle-topk 8 "
    "--speculative-num-draft-tokens 32": ("eagle", 5, 32),
}


@pytest.mark.parametrize("line", FLAGS)
def test_flags_of_engines_are_read(line):
    got = read(line)
    assert (got.drafter, got.drafts, got.verified) == FLAGS[line]


def test_settings_of_tensorrt_llm_are_read(tmp_path):
    path = tmp_path / "extra.yaml"
    path.write_text("speculative_config:\n  decoding_type: MTP\n  num_nextn_predict_layers: 3\n")
    got = read(f"trtllm-serve m --tp_size 8 --extra_llm_api_options {path}")
    assert (got.drafter, got.drafts, got.verified) == ("mtp", 3, 4)


def test_other_drafters_are_named():
    got = read(
        VLLM + """--speculative-config '{"method": "medusa", "num_speculative_tokens": 3}'"""
    )
    assert got.drafter is None
    assert any("medusa" in note and "without speculation" in note for note in got.notes)
    got = read(VLLM + """-sc '{"model": "org/small", "num_speculative_tokens": 3}'""")
    assert (got.drafter, got.drafts) == (None, None)
    assert any(note.startswith("drafts of org/small: not read") for note in got.notes)
    for text in ("{mtp}", "[3]", '{"num_speculative_tokens": 0}'):
        with pytest.raises(ValueError, match="--speculative-config"):
            read(["vllm", "serve", "m", "--speculative-config", text])


def explained(*words):
    line = ["explain", "deepseek-v3", "--hardware", "h200-sxm", "--isl", "8192", "--osl", "1024"]
    engine = ["--", "vllm", "serve", "m", "-tp", "8", "-dp", "2", "-ep", "--max-num-seqs", "16"]
    return CliRunner().invoke(cli, [*line, *words, *engine])


def test_explain_takes_the_drafts_of_the_command_line():
    line = ["explain", "deepseek-v3", "--hardware", "h200-sxm", "--acceptance", "0.9", "--", "vllm"]
    line += ["serve", "m", "-tp", "8", "-dp", "2", "-ep", "--max-num-seqs", "16"]
    draft = ["--speculative-config", '{"method": "mtp", "num_speculative_tokens": 1}']
    told = CliRunner().invoke(cli, [*line, *draft])
    assert told.exit_code == 0, told.output
    assert told.output.startswith("deepseek-v3 on 16 h200-sxm with ")
    assert "said to be accepted with a chance of 0.9: 1.90 tokens a step" in told.output
    alone = CliRunner().invoke(cli, line)
    assert alone.exit_code == 2
    assert "nothing drafts here" in alone.output


def test_written_flags_serve_the_longest_request():
    told = explained()
    assert told.exit_code == 0, told.output
    assert "--max-model-len 9216" in told.output
    assert "--context-length 9216" in told.output
