"""Answers come first, defaults serve the user, and the paper's accounting waits to be asked for."""

import dataclasses
import errno
import html
import json
import os
import re

import numpy as np
import pytest
from click.testing import CliRunner

import qsjax as qs
from qsjax.cli import cli
from qsjax.output import words
from qsjax.questions.explain.answers import Explanation as Result
from qsjax.questions.pareto import pareto

SMALL = ("llama-3.1-8b", "--hardware", "h100-sxm", "--gpus", "1", "--context", "8k")
MIXTURE = ("mixtral-8x7b", "--hardware", "h100-sxm", "--gpus", "8", "--context", "8k")


def run(*arguments, code=0):
    done = CliRunner().invoke(cli, list(arguments))
    assert done.exit_code == code, done.output
    return done.stdout


@pytest.mark.parametrize(
    ("arguments", "begins"),
    [
        (
            ("explore", *SMALL),
            "On 1 h100-sxm, llama-3.1-8b is fastest with everything on one GPU: ",
        ),
        (("explain", *SMALL), "llama-3.1-8b on 1 h100-sxm with everything on one GPU runs: "),
        (("pareto", *SMALL), "llama-3.1-8b on 1 h100-sxm at 8k reaches from "),
        (
            ("compare", "llama-3.1-8b", "llama-3.1-8b@h200-sxm", *SMALL[1:]),
            "At 8k on 1 h100-sxm, llama-3.1-8b makes ",
        ),
        (
            ("sensitivity", *SMALL, "--span", "1", "--parameter", "hbm_bw,hbm_bytes"),
            "llama-3.1-8b on 1 h100-sxm at 8k: 1 % more of a parameter changes ",
        ),
        (
            ("break-even", *MIXTURE, "--low", "1", "--high", "9"),
            "mixtral-8x7b on 8 h100-sxm at 8k: ",
        ),
        (
            ("binding", *SMALL, "--points", "3"),
            "On 1 h100-sxm at 8k, llama-3.1-8b is bound by ",
        ),
        (
            ("speculate", *MIXTURE, "--twins", "none"),
            "mixtral-8x7b on 8 h100-sxm at 8k, if 80 % of the drafts are accepted: ",
        ),
    ],
)
def test_a_verb_begins_with_its_answer(arguments, begins):
    text = run(*arguments)
    answer = json.loads(run(*arguments, "--format", "json"))["answer"]
    assert text.startswith(begins)
    assert text.startswith(answer)
    assert 1 <= len(answer.split("\n")) <= 3
    assert all(line.endswith(".") for line in answer.split("\n"))


def test_printing_and_notebooks_begin_with_it_too():
    found = qs.explore(qs.Problem("llama-3.1-8b", "h100-sxm", gpus=1, context="8k"))
    assert repr(found).startswith(found.summary())
    (table,) = found.tables()
    caption = f"<caption>{html.escape(table.title)}</caption>"
    answer = f"<p>{html.escape(found.summary())}</p>"
    assert found._repr_html_().startswith(f"{answer}<table>{caption}")
    (row,) = found.rows()
    assert f"{row['tokens_per_s_per_gpu']:,.0f} tokens/s on each GPU" in found.summary()
    ends = " to ".join(f"{row[f'tpot_{end}'] * 1e3:.3g}" for end in ("low", "high"))
    assert f"{row['tpot'] * 1e3:.3g} ms ({ends}) a token" in found.summary()


def test_what_is_alike_is_said_once():
    """Cells that differ in context alone, and the best design where it is the stated one."""
    problem = qs.Problem("deepseek-v3", "h100-sxm", gpus=[8, 16], context=["1k", "8k"])
    (line,) = [line for line in qs.explore(problem).remarks() if line.startswith("No design")]
    assert " at 1k and 8k on 8 h100-sxm GPUs: at 8k it would fit with " in line
    found = qs.explain(dataclasses.replace(problem, gpus=16, context="8k"))
    assert [row[0] for row in found.tables()[0].rows] == ["stated, best"]
    assert sum(line.startswith("Cost of ") for line in found.remarks()) == 1


def test_what_cannot_run_says_what_it_takes():
    problem = qs.Problem("deepseek-v3", "h100-sxm", gpus=8, context="32k")
    with pytest.raises(
        ValueError, match=r"It would fit with [\d.]+ GiB of HBM on each GPU, or with 16 GPUs of"
    ):
        qs.explain(problem)


def test_users_are_the_sequences_of_all_replicas():
    problem = qs.Problem("mixtral-8x7b", "h100-sxm", gpus=16, context="8k")
    (row,) = qs.explore(problem).rows()
    assert row["users"] == row["batch"] * row["dp"] * row["replicas"]
    assert row["users"] == pytest.approx(row["tokens_per_s"] / row["tokens_per_s_per_user"])
    assert float(qs.explore(problem).dataset["users"]) == row["users"]
    assert qs.explain(problem).rows()[0]["users"] == row["users"]


class TestDefaults:
    def test_contexts_reach_to_what_the_model_is_published_for(self):
        def longest(model):
            return max(qs.Problem(model, "h100-sxm").stated.contexts)

        assert longest("mixtral-8x7b") == 32_768
        assert longest(qs.model("mixtral-8x7b")) == 32_768
        assert longest(["mixtral-8x7b", "deepseek-v3"]) == 131_072  # of 163,840
        own = qs.ModelSpec(
            layers=2, hidden=64, vocab=99, heads=4, kv_heads=4, head_dim=16, expert_ff=64
        )
        assert longest(own) == 131_072

    @pytest.mark.parametrize("gpus", ["8..64", [8, 16, 32, 64], "8,16..64"])
    def test_a_range_doubles(self, gpus):
        assert qs.Problem("mixtral-8x7b", "h100-sxm", gpus=gpus).stated.gpus == (8, 16, 32, 64)

    @pytest.mark.parametrize("gpus", ["64..8", "8..", "..8", "a..8", "8..1e999", "0..8"])
    def test_what_is_no_range_is_told(self, gpus):
        with pytest.raises(
            ValueError, match=r"is not a range; write it from low to high, as 8\.\.64"
        ):
            qs.Problem("mixtral-8x7b", "h100-sxm", gpus=gpus)
        done = CliRunner().invoke(cli, ["explore", "mixtral-8x7b", "--gpus", gpus])
        assert done.exit_code == 2
        assert "8..64 (8, 16, 32, 64)" in done.output

    @pytest.mark.parametrize(
        ("field", "given"), [("context", "131,072"), ("context", "16,384"), ("gpus", "1,024")]
    )
    def test_commas_for_thousands_make_no_list(self, field, given):
        """`context="131,072"` was 131 and 72 tokens in Python, which the command refused."""
        told = f"{field}: '{given}' may be one number: write {given.replace(',', '')}; several"
        with pytest.raises(ValueError, match=told):
            qs.Problem("mixtral-8x7b", "h100-sxm", **{field: given})
        assert qs.Problem("mixtral-8x7b", "h100-sxm", gpus="8,128").stated.gpus == (8, 128)

    def test_no_twins_if_none_are_wanted(self):
        assert "dense" not in run("explore", *MIXTURE, "--twins", "none")
        assert "dense q=5" in run("explore", *MIXTURE)

    def test_the_best_split_of_so_many_gpus_is_explained(self):
        found = json.loads(run("explain", *MIXTURE, "--format", "json"))["stated"]
        (row,) = qs.explore(qs.Problem("mixtral-8x7b", "h100-sxm", gpus=8, context="8k")).rows()
        assert found["tokens_per_s_per_gpu"] == pytest.approx(row["tokens_per_s_per_gpu"])
        filled = json.loads(run("explain", *MIXTURE, "--tp", "4", "--format", "json"))["stated"]
        assert (filled["gpus"], filled["replicas"]) == (8, 2)

    def test_the_accelerator_is_one_that_people_have(self):
        text = run("explore", "llama-3.1-8b", "--gpus", "1", "--context", "8k")
        assert text.startswith("On 1 h100-sxm, ")


class TestConvention:
    def test_the_paper_waits_to_be_asked_for(self):
        problem = qs.Problem("mixtral-8x7b", "h100-sxm", gpus=8, context="8k", twins=3)
        alone = qs.explore(problem)
        assert not alone.beside
        assert not [name for name in alone.rows()[1] if "paper" in name]
        both = qs.explore(
            qs.Problem("mixtral-8x7b", "h100-sxm", gpus=8, context="8k", twins=3, convention="both")
        )
        paper = qs.explore(
            qs.Problem(
                "mixtral-8x7b", "h100-sxm", gpus=8, context="8k", twins=3, convention="paper"
            )
        )
        assert both.rows()[1]["speedup_over_moe_paper"] == paper.rows()[1]["speedup_over_moe"]
        assert both.rows()[1]["speedup_over_moe"] == alone.rows()[1]["speedup_over_moe"]


class TestServed:
    def test_a_cache_of_its_own(self):
        plain, short = qs.served("llama-3.1-70b"), qs.served("llama-3.1-70b", kv="fp8")
        assert (plain.name, short.name) == ("llama-3.1-70b", "llama-3.1-70b, kv=fp8")
        assert (plain.workload.bytes_kv, short.workload.bytes_kv) == (2.0, 1.0)
        problem = qs.Problem([plain, short], "h100-sxm", gpus=8, context="32k")
        first, second = (row["batch"] * row["dp"] for row in qs.explore(problem).rows())
        assert second > 1.5 * first

    def test_tokens_of_a_step_by_summing_the_chances(self):
        """One token for sure, and each draft if it and all before it are accepted."""
        work = qs.served("deepseek-v3", acceptance=0.7, drafts=3).workload
        assert work.tokens_per_step == pytest.approx(1 + 0.7 + 0.7**2 + 0.7**3)
        assert work.query_tokens == 4

    @pytest.mark.parametrize(
        ("acceptance", "drafts", "what"),
        [
            *((a, n, "a share from 0 to below 1") for a, n in ((1.0, 1), (-0.1, 1), (0.5, 0))),
            (0.5, 1.5, "a share from 0 to below 1"),
            (None, 2, "acceptance=0.85 beside it"),  # it was ignored
        ],
    )
    def test_what_cannot_be_accepted(self, acceptance, drafts, what):
        with pytest.raises(ValueError, match=f"give {what}"):
            qs.served("deepseek-v3", acceptance=acceptance, drafts=drafts)


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, 1), (errno.EDQUOT, 1), (errno.EACCES, 2)]
)
@pytest.mark.parametrize("place", ["print", "save"])
def test_a_full_disk_is_no_mistake_of_the_input(monkeypatch, number, code, place):
    def full(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Result, "save" if place == "save" else "record", full)
    line = ["explain", *SMALL, "--format", "json", *(["--out", "there"] if place == "save" else [])]
    done = CliRunner().invoke(cli, line)
    assert (done.exit_code, os.strerror(number) in done.output) == (code, True)


def test_memory_that_is_told_to_suffice_does():
    """153.2 GiB of 153.21 were told, and missed by 0.04; one GPU has no other split."""

    def said(gpu):
        one = qs.Problem("llama-3.1-70b", gpu, gpus=1, context="8k")
        return qs.explain(one, qs.Partition()).summary()

    told = said("h100-sxm")
    (enough,) = re.findall(r"fit with ([\d.]+) GiB of HBM on each GPU, or", told)
    larger = qs.hardware("h100-sxm", hbm_capacity_gib=float(enough))
    assert " runs: 1 user at 8k" in said(larger)


def test_a_front_of_one_design_is_told_as_one():
    """It went from 84.2 tokens/s for each user to where each user has 84.2."""
    alone = qs.Problem("llama-3.1-70b", "h100-sxm", gpus=8, context="8k", batch=1, axes={"tp": [8]})
    said = qs.pareto(alone).summary()
    assert " makes 84.2 tokens/s for each user and 10.5 on each GPU with tensor " in said


GIANT = (
    "llama-3.1-405b has no design at 8k: it would fit with 848.8 GiB of HBM on each GPU, or with"
)
FULL = ("--hardware", "b200-sxm", "--gpus", "8", "--context", "32k", "--batch", "64")
FEW = ("--gpus", "1", "--context", "8k", "--twins", "none")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("compare", "llama-3.1-8b", "llama-3.1-405b", *FEW), f"{GIANT} 16 GPUs of this kind."),
        (
            ("compare", "llama-3.1-8b", "qwen3-8b", *FEW, "--max-tpot", "1ms"),
            "qwen3-8b has no design at 8k: no design keeps TPOT <= 1 ms; the best that can be had",
        ),
        (
            ("compare", "llama-3.1-8b", "qwen3-8b", *FEW, "--max-tpot", "15ms"),
            "TPOT <= 15 ms lies within the intervals of 2 of 2 designs: whether these keep it is",
        ),
        (
            ("compare", "llama-3.1-8b", "qwen3-8b", *FEW, "--min-user-rate", "60"),
            "tokens/s/user >= 60 lies within the intervals of 2 of 2 designs",
        ),
        (("binding", *SMALL, "--max-tpot", "1ms"), "No design keeps TPOT <= 1 ms."),
        (("speculate", *SMALL, "--batch", "2"), " times the tokens at a batch of 2. Drafts take "),
        (("explore", *SMALL, "--batch", "1000"), "GPUs of this kind, or with a smaller batch."),
        # It was told to take 8 GPUs, which it has.
        (
            ("explore", "deepseek-v3.2", *FULL, "--tp", "8", "--twins", "none"),
            "GiB of HBM on each GPU, or with another split, or with a smaller batch.",
        ),
        (("explain", *SMALL[:3], "--isl", "1000", "--osl", "1"), " and 1 token out need 343 pref"),
        (("prefix-cache", *SMALL[:3], "--reuse-interval", "2h"), " 2 h ago."),
    ],
)
def test_what_is_in_the_way_is_told_once(arguments, says):
    assert run(*arguments).count(says) == 1


def test_a_limit_that_is_surely_kept_is_not_told():
    line = ("compare", "llama-3.1-8b", "qwen3-8b", *FEW, "--max-tpot", "500ms")
    assert "lies within" not in run(*line)
    problem = qs.Problem("llama-3.1-8b", "h100-sxm", gpus=1, context="8k")
    near = dataclasses.replace(problem, limits=qs.Limits(max_tpot=0.01))
    told = [str(qs.explore(one).remarks()).count("lies within") for one in (problem, near)]
    assert told == [0, 1]


def test_an_engines_limit_of_sequences_is_no_promise():
    engine = ("vllm", "serve", "m", "-tp", "8", "--max-num-seqs", "4096")
    flags = ("--hardware", "h100-sxm", "--context", "32k", "--format", "json")
    found = json.loads(run("explain", "mixtral-8x7b", *flags, "--", *engine))
    assert found["stated"]["is_feasible"]
    assert found["stated"]["batch"] == found["stated"]["max_batch"] < 4096
    assert any("takes up to 4,096 sequences" in note for note in found["notes"])
    asked = run("explain", "mixtral-8x7b", "--batch", "4096", *flags, "--", *engine)
    assert not json.loads(asked)["stated"]["is_feasible"]


def test_fronts_say_who_leads_where_users_want_speed():
    problem = qs.Problem("llama-3.1-8b", ["h100-sxm", "h200-sxm"], gpus=1, context="8k")
    found = pareto(problem)
    fronts = {
        name: [row for row in found.rows() if row["hardware"] == name]
        for name in ("h100-sxm", "h200-sxm")
    }
    best = {
        name: max(r["tokens_per_s_per_gpu"] for r in rows if r["tokens_per_s_per_user"] >= 50)
        for name, rows in fronts.items()
    }
    ratio = best["h200-sxm"] / best["h100-sxm"]
    assert "At 20 tokens/s for each user h200-sxm makes " in found.summary()
    assert f", {words.gap(ratio, 'more', 'less')} at 50 (within the error)," in found.summary()
    assert found.summary().count("for each user h200-sxm makes") == 1
    assert np.isfinite(ratio)
