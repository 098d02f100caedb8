"""The comparison with AIConfigurator: what it is asked, what it answers, and both errors."""

import types

import pytest

from benchmarks import side_by_side

RECORD = {"weights_dtype": "fp8", "kv_dtype": "fp8"}
ROW = {
    "gpu": "h200-sxm", "engine": "vllm", "model": "minimax-m2.5", "prompt": 922.0, "output": 922.0,
    "batch": 0.25, "is_moe": True, "tp": 4.0, "dp": 2.0, "ep": 8.0,
}  # fmt: skip


def test_a_record_is_asked_with_its_split_and_precisions():
    asked = side_by_side.request_of(RECORD, ROW)
    split = ("tp_size", "attention_dp_size", "moe_ep_size", "moe_tp_size", "batch_size")
    assert [asked[name] for name in split] == [4, 2, 8, 1, 1]
    assert (asked["gemm_quant_mode"], asked["kvcache_quant_mode"]) == ("fp8_block", "fp8")
    dense = side_by_side.request_of(RECORD, ROW | {"model": "llama-3.1-70b", "is_moe": False})
    assert dense["gemm_quant_mode"] == "fp8"
    assert "moe_ep_size" not in dense


@pytest.mark.parametrize("change", [{"gpu": "mi300x"}, {"engine": ""}, {"model": "grok-1"}])
def test_what_it_does_not_know_is_not_asked(change):
    assert side_by_side.request_of(RECORD, ROW | change) is None


def test_answers_are_kept_and_errors_are_answers(tmp_path, monkeypatch):
    monkeypatch.setattr(side_by_side, "KEPT", tmp_path / "kept.json")
    calls = []

    def estimate(tp_size):
        calls.append(tp_size)
        if tp_size == 3:
            raise RuntimeError("no table")
        return types.SimpleNamespace(tpot=10.0 / tp_size)

    requests = [{"tp_size": 2}, None, {"tp_size": 3}, {"tp_size": 2}]
    kept = {}
    found = side_by_side.answer(requests, estimate, kept)
    assert found == [5.0, "no such model, accelerator or engine", "RuntimeError: no table", 5.0]
    assert calls == [2, 3]
    assert side_by_side.answer(requests, estimate, kept) == found
    assert calls == [2, 3]


def test_the_smaller_median_stands_out():
    rows = [
        {"engine": name, "measured": 10.0, "qsjax": 10.0 + ours, "rival": 10.0 + theirs}
        for name, ours, theirs in (("a", 1, -2), ("a", 3, -2), ("b", -1, 0.5))
    ]
    lines = side_by_side.table(rows, ["engine"]).splitlines()
    assert lines[2] == "| a | 2 | **20.0** | 28.0 | +20.0 | 20.0 | 20.0 | -20.0 |"
    assert lines[3] == "| b | 1 | 10.0 | 10.0 | -10.0 | **5.0** | 5.0 | +5.0 |"
