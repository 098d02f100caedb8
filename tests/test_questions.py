"""The ten questions of docs/guides/ten-questions.md: one command each, answered in three lines.

Each number that a line must hold is computed by other calls of the library than the verb makes.
"""

import re
import shlex

import pytest
from click.testing import CliRunner
from snippets import ROOT

import qsjax as qs
from qsjax.cli import cli
from qsjax.cost.disaggregation import companion

PAGE = (ROOT / "docs/guides/ten-questions.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"<!-- output \d: (qsjax .*?) -->", PAGE)


def said(at):
    """The first three lines of the answer to a question, counted from 1."""
    done = CliRunner().invoke(cli, shlex.split(COMMANDS[at - 1])[1:])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()[:3]
    assert not any(set("┏┃│") & set(line) for line in lines[:1])
    return lines


def best(model, hardware, *, gpus, context, **more):
    """The best design of one cell at its best batch, taken apart."""
    problem = qs.Problem(model, hardware, gpus=gpus, context=context, batch="best", **more)
    return qs.explain(problem).stated


def percent(ratio):
    """A ratio above 1 and below 2 as the answers write it."""
    return f"{100 * (ratio - 1):.0f} % more"


def test_there_are_ten():
    assert len(COMMANDS) == len(re.findall(r"^## .*\?$", PAGE, re.MULTILINE)) == 10
    shown = [c.replace("\\\n", "") for c in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)]
    assert [c.split() for c in shown] == [c.split() for c in COMMANDS]


@pytest.mark.slow
def test_1_how_many_gpus_for_200_users():
    lines = said(1)
    total, replicas, each = map(
        int, re.search(r": (\d+) GPUs \((\d+) copies of (\d+):", lines[0]).groups()
    )
    assert total == replicas * each
    assert "200 users" in lines[0]
    assert "TPOT <= 33 ms" in lines[0]
    # By capacity alone: 200 requests of at most 33k tokens beside one copy of the weights each.
    problem = qs.Problem("kimi-k2", "h200-sxm", gpus=each, context=33792)
    room = max(row["users"] for row in qs.explore(problem).rows() if row["is_feasible"])
    assert total >= each
    assert replicas * room > 100
    asked = {"users": 200, "isl": "32k", "osl": "900-1100", "tpot": 0.033}
    (varied,) = qs.size(qs.Problem("kimi-k2", "h200-sxm"), **asked).rows()
    assert f"with `--osl 900-1100` it takes {varied['gpus']:.0f}." in PAGE


def test_2_is_an_fp8_cache_worth_it():
    lines = said(2)
    rates = {}
    for context in (1024, 32768, 131072):
        for kv in (None, "fp8"):
            case = best("llama-3.1-70b", "a100-sxm", gpus=8, context=context, kv=kv)
            rates[context, kv] = case.rate
    at = {context: percent(rates[context, "fp8"] / rates[context, None]) for context, _ in rates}
    assert f"; kv=fp8 makes {at[32768]}" in lines[0]
    text = " ".join(lines)
    assert f"goes from {at[1024]} at 1k (within the error) to {at[131072]} at 128k" in text
    assert "leads at every context" in text


def test_3_what_if_the_island_is_72_gpus():
    lines = said(3)
    chip, limits = qs.hardware("b200-sxm"), qs.Limits(min_user_rate=50.0)
    small, large = (
        best("deepseek-v3", one, gpus=72, context=8192, limits=limits)
        for one in (chip, chip.replace(island_size=72))
    )
    assert f"makes {small.rate:,.0f} tokens/s on each GPU" in lines[0]
    ratio = large.rate / small.rate
    assert (f"{ratio:.1f} times as much" if ratio >= 2 else percent(ratio)) in lines[0]


def test_4_per_gpu_and_per_dollar():
    lines = said(4)
    amd, nvidia = (
        best("gpt-oss-120b", name, gpus=8, context=8192).rate for name in ("mi355x", "b200-sxm")
    )
    change = f"{100 * abs(nvidia / amd - 1):.0f} % {'more' if nvidia > amd else 'less'}"
    assert f"; b200-sxm makes {change}" in lines[0]
    price = float(qs.hardware("b200-sxm").usd_per_hour)
    assert f"if a GPU-hour costs less than {price * amd / nvidia:.2f} USD" in lines[1]
    assert f"costs {1e6 * price / 3600 / nvidia:.2f} USD" in lines[1]


def test_5_twice_the_memory():
    lines = said(5)
    chip = qs.hardware("h100-sxm")
    changes = ({}, {"hbm_bytes": 2}, {"hbm_bw": 2}, {"hbm_bytes": 2, "hbm_bw": 2})
    rates = []
    for change in changes:
        fields = {name: factor * getattr(chip, name) for name, factor in change.items()}
        one = chip.replace(**fields) if fields else chip
        rates.append(best("llama-3.1-70b", one, gpus=8, context=32768).rate)
    for rate in rates[1:]:
        ratio = rate / rates[0]
        assert (f"{ratio:.1f} times" if ratio >= 2 else percent(ratio)) in lines[0]
    assert rates[3] > max(rates[:3])


def test_6_prefill_gpus_for_each_decode_gpu():
    lines = said(6)
    problem = qs.Problem("deepseek-v3", "h200-sxm", gpus=16, context=8704)
    answer = qs.explain(problem, requests=(8192, 1024))
    stated = answer.stated
    beside = companion(stated.records, stated.parts.step, stated.rules, 8192, 1024)
    text = " ".join(lines)
    assert f"{beside.prefill_gpus_per_decode_gpu:.2g} prefill GPUs for each decode GPU" in text
    assert f"{beside.tokens_per_s_per_gpu_disaggregated:.0f} output tokens/s on each GPU" in text
    pays = answer.pools.apart.rate > answer.pools.together.rate
    assert (" disaggregation pays" in text) == pays


def test_7_speculation_at_three_batches():
    lines = said(7)
    for line, batch in zip(lines, (1, 16, 128), strict=True):
        rates = [
            qs.explain(
                qs.Problem(model, "h200-sxm", gpus=16, context=8192, batch=batch)
            ).stated.rate
            for model in ("deepseek-v3", qs.served("deepseek-v3", acceptance=0.85))
        ]
        where = " on 16 h200-sxm," if batch == 1 else ""  # told once
        assert line.startswith(f"At batch {batch} and 8k{where} deepseek-v3 makes ")
        assert percent(rates[1] / rates[0]) in line


def test_8_price_of_a_million_tokens():
    lines = said(8)
    for name in ("h100-sxm", "h200-sxm", "b200-sxm"):
        found = best("llama-3.1-70b", name, gpus=8, context=4608)
        beside = companion(found.records, found.parts.step, found.rules, 4096, 1024)
        both = (
            beside.tokens_per_s_per_gpu_disaggregated,
            beside.tokens_per_s_per_gpu_aggregated,
        )
        usd = 1e6 * float(qs.hardware(name).usd_per_hour) / 3600 / max(both)
        assert re.search(rf"{usd:.2f} (USD )?for (llama-3.1-70b@)?{name}", lines[1])
    assert "prompts included" in lines[1]


def test_9_will_it_start():
    lines = said(9)
    assert "gpt-oss-120b on 2 h100-sxm with attention split over 2 GPUs" in lines[0]
    users = int(re.search(r" runs: (\d+) users at 32k", lines[0])[1])
    # By hand: 18 of 36 layers keep all tokens, 8 heads of 64 for keys and values in 16 bits; the
    # weights are 63 GB (the model card), and vLLM keeps less than half of the rest.
    cache, room = users * 32768 * 18 * 2 * 8 * 64 * 2, 2 * 80 * 2**30 - 63e9
    assert 0.5 * room < cache < room
    assert users < 256  # what the engine would take
    assert lines[1].startswith(("Better: ", "No design on as many GPUs has more", "The "))


def test_10_at_which_context_the_dense_model_wins():
    lines = said(10)
    for line, name in zip(lines, ("h100-sxm", "b200-sxm"), strict=False):
        assert f"on 64 {name}: " in line
        roots = [float(x.replace(",", "")) for x in re.findall(r"([\d,]+) tokens", line)]
        assert roots
        last = max(root for root in roots)
        for context, winner in ((0.97 * roots[0], "moe"), (1.03 * last, "dense")):
            problem = qs.Problem(
                "deepseek-v3", name, gpus=64, context=round(context), twins=5, batch="best"
            )
            moe, dense = (row["tokens_per_s_per_gpu"] for row in qs.explore(problem).rows())
            assert (dense > moe) == (winner == "dense")
