"""The study of Table 2: every dimension is there, and each row is the search that it names."""

import dataclasses

import numpy as np
import pytest

from qsjax import catalog
from qsjax.evidence.paper.table_2 import GPUS, HARDWARE, SPLITS, steadiness, study, summary
from qsjax.questions.sensitivity import problem, solve

CONTEXTS = [8192.0, 131072.0]
QS = [2.0, 5.0]
MODELS = ("mixtral-8x7b", "deepseek-v3")


@pytest.fixture(scope="module")
def hardware():
    return catalog.hardware("paper-reference")


@pytest.fixture(scope="module")
def result(hardware):
    return study({name: catalog.model(name) for name in MODELS}, hardware, contexts=CONTEXTS, qs=QS)


def find(rows, **keys):
    return [row for row in rows if all(row[name] == value for name, value in keys.items())]


def test_every_dimension_is_varied_under_both_conventions(result):
    for convention in ("physical", "paper"):
        for dimension, values in {**HARDWARE, **SPLITS}.items():
            for model in MODELS:
                got = {r["value"] for r in find(result.rows, convention=convention, model=model,
                                                dimension=dimension)}  # fmt: skip
                missing = set(values) - got
                assert missing <= {"ep=16", "ep=32"}, (dimension, missing)
                assert not missing or model == "mixtral-8x7b"  # it has 8 experts
    cells = len(QS) * len(CONTEXTS)
    assert len(find(result.rows, convention="paper", model="deepseek-v3", value="tp=4")) == cells


@pytest.mark.parametrize(
    ("dimension", "value", "changes", "overrides"),
    [
        ("reference", "reference", {}, {}),
        ("capacity", "-25 %", {"hbm_bytes": 135e9}, {}),
        ("bandwidth", "+25 %", {"hbm_bw": 10e12}, {}),
        ("interconnect", "448 GB/s", {"intra_bw": 448e9, "inter_bw": 448e9}, {}),
        ("latency", "20 us", {"intra_latency": 2e-5, "inter_latency": 2e-5}, {}),
        ("CP ring tail", "0.5", {"cp_ring_tail": 0.5}, {}),
        ("TP", "tp=4", {}, {"tp": [4]}),
        ("KV", "pass-Q only", {}, {"kv_mode": ["none", "cp"]}),
    ],
)
@pytest.mark.parametrize("convention", ["physical", "paper"])
def test_a_row_is_the_search_that_it_names(
    result, hardware, convention, dimension, value, changes, overrides
):
    stated = problem(
        catalog.model("deepseek-v3"),
        dataclasses.replace(hardware, **changes),
        gpus=[GPUS],
        contexts=CONTEXTS,
        qs=QS,
        convention=convention,
        overrides=overrides,
    )
    score = np.asarray(solve(stated).best.score).reshape(3, -1)
    rows = find(result.rows, convention=convention, model="deepseek-v3",
                dimension=dimension, value=value)  # fmt: skip
    want = (score[1:] / score[0]).ravel()
    np.testing.assert_allclose([row["speedup"] for row in rows], want, rtol=1e-9)
    assert [row["winner"] for row in rows] == ["dense" if w > 1 else "moe" for w in want]


def test_a_degree_of_experts_binds_the_mixture_alone(result, hardware):
    rows = find(result.rows, convention="physical", model="deepseek-v3", value="ep=4")
    cells = {"gpus": [GPUS], "contexts": CONTEXTS, "qs": QS}
    model = catalog.model("deepseek-v3")
    moe = solve(problem(model, hardware, overrides={"ep": [4]}, **cells)).best.score[:2]
    twin = solve(problem(model, hardware, **cells)).best.score[2:].reshape(2, 2)
    np.testing.assert_allclose([r["speedup"] for r in rows], (twin / moe).ravel(), rtol=1e-9)


def test_flips_compare_with_the_reference(result):
    for row in result.rows:
        (reference,) = find(
            result.rows,
            dimension="reference",
            **{name: row[name] for name in ("convention", "model", "q", "context")},
        )
        assert row["reference_winner"] == reference["winner"]
        both = {row["winner"], reference["winner"]}
        assert row["flips"] == (both == {"dense", "moe"})
    assert any(row["flips"] for row in result.rows)


def test_the_summary_counts_the_rows(result):
    found = summary(result)
    assert sum(row["flips"] for row in found) == sum(row["flips"] for row in result.rows)
    (reference,) = find(found, convention="physical", dimension="reference")
    assert reference["flips"] == 0
    assert 0 < reference["dense_wins"] <= reference["cells"]
    for row in found:
        cells = find(result.rows, **{k: row[k] for k in ("convention", "dimension", "value")})
        assert row["to_dense"] == sum(c["flips"] and c["winner"] == "dense" for c in cells)
    assert 0 < sum(row["to_dense"] for row in found) < sum(row["flips"] for row in found)
    names = [row["dimension"] for row in find(found, convention="paper")]
    assert list(dict.fromkeys(names)) == ["reference", *HARDWARE, *SPLITS]


def test_flips_are_listed_at_a_q_that_was_studied(result):
    assert {row["q"] for row in summary(result)} == {5.0}
    few = dataclasses.replace(result, rows=find(result.rows, q=2.0))
    found = summary(few)
    assert {row["q"] for row in found} == {2.0}
    listed = sum(len(contexts) for row in found for contexts in row["where"].values())
    assert listed == sum(row["flips"] for row in found)


def test_all_combinations_of_the_hardware_dimensions_are_tried(result):
    everything = np.prod([len(values) + 1 for values in HARDWARE.values()])
    assert {row["combinations"] for row in result.factorial} == {everything}
    for row in result.factorial:
        sure = row["dense_share"] in (0.0, 1.0)
        assert not (sure and row["flipped_by"])
        assert all(0 < share <= 1 for share in row["flipped_by"].values())
    assert any(row["flipped_by"] for row in result.factorial)
    for convention, (steady, cells) in steadiness(result).items():
        own = find(result.factorial, convention=convention)
        assert cells == len(own)
        assert steady == sum(row["dense_share"] in (0.0, 1.0) for row in own)


def test_a_dense_model_is_refused(hardware):
    with pytest.raises(ValueError, match=r"llama-3\.1-8b: no experts"):
        study({"llama-3.1-8b": catalog.model("llama-3.1-8b")}, hardware)
