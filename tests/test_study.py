"""The study of Table 2: every dimension is there, and each row is the search that it names."""

import dataclasses

import numpy as np
import pytest

from qsjax import catalog
from qsjax.evidence.paper.table_2 import GPUS, HARDWARE, SPLITS, study
from qsjax.grid.problem import Problem
from qsjax.grid.solution import solve_all
from qsjax.numerics.loading import in_float64

CONTEXTS = [8192.0, 131072.0]
QS = [2.0, 5.0]
MODELS = ("mixtral-8x7b", "deepseek-v3")


@pytest.fixture(scope="module")
def hardware():
    return catalog.hardware("paper-reference")


@pytest.fixture(scope="module")
def result(hardware):
    return study(Problem(MODELS, hardware, gpus=GPUS, context=CONTEXTS, twins=QS))


@in_float64
def scores(*arguments, **stated):
    (solution,) = solve_all(Problem(*arguments, **stated))
    return solution.best.score


def find(rows, **keys):
    return [row for row in rows if all(row[name] == value for name, value in keys.items())]


def test_every_dimension_is_varied_under_both_conventions(result):
    for convention in ("physical", "paper"):
        for dimension, values in {**HARDWARE, **SPLITS}.items():
            for model in MODELS:
                got = {r["value"] for r in find(result.cases, convention=convention, model=model,
                                                dimension=dimension)}  # fmt: skip
                missing = set(values) - got
                assert missing <= {"ep=16", "ep=32"}, (dimension, missing)
                assert not missing or model == "mixtral-8x7b"  # it has 8 experts
    cells = len(QS) * len(CONTEXTS)
    assert len(find(result.cases, convention="paper", model="deepseek-v3", value="tp=4")) == cells


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
    stated = scores(
        catalog.model("deepseek-v3"),
        dataclasses.replace(hardware, **changes),
        gpus=[GPUS],
        context=CONTEXTS,
        twins=QS,
        convention=convention,
        axes=overrides,
    )
    score = stated.reshape(3, -1)
    rows = find(result.cases, convention=convention, model="deepseek-v3",
                dimension=dimension, value=value)  # fmt: skip
    want = (score[1:] / score[0]).ravel()
    np.testing.assert_allclose([row["speedup"] for row in rows], want, rtol=1e-9)
    assert [row["winner"] for row in rows] == ["dense" if w > 1 else "moe" for w in want]


def test_a_degree_of_experts_binds_the_mixture_alone(result, hardware):
    rows = find(result.cases, convention="physical", model="deepseek-v3", value="ep=4")
    cells = {"gpus": [GPUS], "context": CONTEXTS, "twins": QS}
    model = catalog.model("deepseek-v3")
    moe = scores(model, hardware, axes={"ep": [4]}, **cells)[:2]
    twin = scores(model, hardware, **cells)[2:].reshape(2, 2)
    np.testing.assert_allclose([r["speedup"] for r in rows], (twin / moe).ravel(), rtol=1e-9)


def test_flips_compare_with_the_reference(result):
    for row in result.cases:
        (reference,) = find(
            result.cases,
            dimension="reference",
            **{name: row[name] for name in ("convention", "model", "q", "context")},
        )
        assert row["reference_winner"] == reference["winner"]
        both = {row["winner"], reference["winner"]}
        assert row["flips"] == (both == {"dense", "moe"})
    assert any(row["flips"] for row in result.cases)


def test_the_summary_counts_the_rows(result):
    found = result.rows()
    assert sum(row["flips"] for row in found) == sum(row["flips"] for row in result.cases)
    (reference,) = find(found, convention="physical", dimension="reference")
    assert reference["flips"] == 0
    assert 0 < reference["dense_wins"] <= reference["cells"]
    for row in found:
        cells = find(result.cases, **{k: row[k] for k in ("convention", "dimension", "value")})
        assert row["to_dense"] == sum(c["flips"] and c["winner"] == "dense" for c in cells)
    assert 0 < sum(row["to_dense"] for row in found) < sum(row["flips"] for row in found)
    names = [row["dimension"] for row in find(found, convention="paper")]
    assert list(dict.fromkeys(names)) == ["reference", *HARDWARE, *SPLITS]


def test_flips_are_listed_at_a_q_that_was_studied(result):
    assert {row["q"] for row in result.rows()} == {5.0}
    few = dataclasses.replace(result, cases=find(result.cases, q=2.0))
    found = few.rows()
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
    for convention, (steady, cells) in result.steadiness().items():
        own = find(result.factorial, convention=convention)
        assert cells == len(own)
        assert steady == sum(row["dense_share"] in (0.0, 1.0) for row in own)


def test_a_dense_model_is_refused(hardware):
    with pytest.raises(ValueError, match=r"(?s)llama-3\.1-8b: no experts.*give one value"):
        study(Problem("llama-3.1-8b", hardware, gpus=[8, 16]))


def test_the_study_is_files_and_a_figure(result, tmp_path):
    names = {path.name for path in result.save(tmp_path)}
    assert {"summary.csv", "study.csv", "study.svg", "result.json"} <= names
    assert set(result.record()) == {"rows", "combinations"}
    assert "one side wins" in result.summary()
