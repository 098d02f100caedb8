"""A mix of lengths: reading it, merging lengths, and the split that is best for all."""

import numpy as np
import pandas as pd
import pytest
from serving_cases import brute_force, problem
from tolerances import EXACT

from qsjax.grid.limits import Limits
from qsjax.output.sheets import MOST_ERRORS
from qsjax.questions.mix import Request, mix
from qsjax.questions.mix.requests import classes_of, read_requests, requests_of

CLASSES = [Request(32768.0, 0.5), Request(65536.0, 0.3), Request(131072.0, 0.2)]


def solve(classes, convention="physical", **more):
    """The mixture of Mixtral alone."""
    (found,) = mix(problem(convention, twins=(), **more), classes).mixtures
    return found


@pytest.mark.parametrize("convention", ["physical", "paper"])
def test_the_split_is_that_of_brute_force(convention):
    time = 0.0
    own = 0.0
    for request in CLASSES:
        batches = np.arange(1.0, 351.0)
        asked = problem(convention, twins=(), context=request.context)
        (found,), (runs,) = brute_force(asked, batches)
        rate = np.where(runs, found["tokens_per_s_per_gpu"], 0.0).reshape(-1, len(batches))
        assert found["batch"][runs].max() < batches[-1]
        best = rate.max(axis=1)
        with np.errstate(divide="ignore"):
            time = time + request.tokens / best
        own += request.tokens / best.max()
    found = solve(CLASSES, convention)
    # The ladder may leave out a batch that is best by a hair; its bound is 2 %.
    assert found.rate == pytest.approx(1 / time.min(), rel=0.02)
    assert found.rate <= (1 + EXACT) / time.min()
    assert found.rate_of_own == pytest.approx(1 / own, rel=0.02)
    assert 0 <= found.loss < 1
    assert found.loss == pytest.approx(1 - found.rate / found.rate_of_own)


def test_one_class_loses_nothing():
    found = solve(CLASSES[:1])
    assert found.loss == pytest.approx(0.0, abs=1e-12)
    assert found.design == found.classes[0].own_design
    rows = mix(problem(twins=()), CLASSES[:1]).rows()
    assert [row["loss"] for row in rows] == pytest.approx([0.0], abs=1e-12)


def test_shares_weigh_the_classes():
    found = solve(CLASSES)
    time = sum(c.share / c.tokens_per_s_per_gpu for c in found.classes)
    assert found.rate == pytest.approx(1 / time, rel=EXACT)
    assert all(
        c.tokens_per_s_per_gpu <= c.own_tokens_per_s_per_gpu * (1 + EXACT) for c in found.classes
    )


def test_a_class_that_runs_nowhere_is_named():
    found = solve([*CLASSES, Request(2.0**30, 0.1)])
    assert found.design == {}
    assert found.rate == found.rate_of_own == 0
    assert [bool(c.own_design) for c in found.classes] == [True, True, True, False]
    assert found.loss == 0


def test_limits_hold_for_every_class():
    free = solve(CLASSES)
    bound = solve(CLASSES, limits=Limits(min_headroom=0.2, max_tp=2.0))
    assert bound.design["tp"] <= 2
    assert 0 < bound.rate < free.rate


def test_a_given_batch_is_kept():
    given = [request._replace(batch=4.0) for request in CLASSES]
    found = solve(given)
    assert {c.batch for c in found.classes} == {4.0}
    assert found.rate < solve(CLASSES).rate


def test_requests_are_read():
    assert read_requests("context\n100\n200\n") == [Request(100.0, 1.0), Request(200.0, 1.0)]
    rows = read_requests("ISL, osl ,count,batch\n1000,200,3,\n\n0,10,,8\n")
    assert rows == [Request(1100.0, 600.0, None, 200.0), Request(5.0, 10.0, 8.0, 10.0)]
    assert read_requests("prompt_tokens,completion_tokens\n4,2\n") == [Request(5.0, 2.0, None, 2.0)]


def test_requests_come_from_text_files_and_lists(tmp_path):
    wanted = [Request(1100.0, 200.0, None, 200.0), Request(5.0, 10.0, None, 10.0)]
    text = "isl,osl\n1000,200\n0,10\n"
    (tmp_path / "r.csv").write_text(text)
    for given in (
        text,
        tmp_path / "r.csv",
        str(tmp_path / "r.csv"),
        [(1000, 200), (0, 10)],
        wanted,
    ):
        assert requests_of(given) == wanted
    with pytest.raises(ValueError, match=r"row 2: osl 0 is not allowed(.|\n)*row 3: .*neither"):
        requests_of([(1000, 200), (0, 0), 7])
    with pytest.raises(ValueError, match="row 1: context -3"):
        requests_of([Request(-3.0, 1.0)])
    with pytest.raises(ValueError, match="at least one request"):
        requests_of([])
    with pytest.raises(ValueError, match="requests: an int was given; give a file"):
        requests_of(7)
    with pytest.raises(ValueError, match=r"none\.csv: cannot be read"):
        requests_of(tmp_path / "none.csv")
    (tmp_path / "r.csv").write_text('isl,osl\n"1,2\n')
    with pytest.raises(ValueError, match=r"r\.csv: row 2: .*mend the quotes"):
        requests_of(tmp_path / "r.csv")


def test_requests_come_from_a_data_frame():
    frame = pd.DataFrame({"isl": [1000, 2000], "osl": [100, 300], "count": [1, 3]})
    assert requests_of(frame) == requests_of("isl,osl,count\n1000,100,1\n2000,300,3\n")


def test_models_twins_and_counts_are_mixtures_of_their_own(tmp_path):
    answer = mix(problem(gpus=[4, 8]), CLASSES)
    labels = [(one.label["variant"], one.label["gpus"]) for one in answer.mixtures]
    assert labels == [("moe", 4), ("moe", 8), ("dense", 4), ("dense", 8)]
    assert answer.mixtures[1].rate == solve(CLASSES).rate
    assert len(answer.rows()) == 4 * 3
    assert answer.dataset.tokens_per_s_per_gpu.attrs["units"] == "tokens/s/GPU"
    assert {path.name for path in answer.save(tmp_path)} >= {"mix.csv", "mix.nc", "inputs.json"}


def test_every_bad_row_is_named_by_its_number():
    text = "isl,osl,count\n1,a,1\n5,5,1\n-1,5,1\n3,4,0\n1\ninf,2,1\n"
    with pytest.raises(ValueError, match=r"mine\.csv") as caught:
        read_requests(text, "mine.csv")
    message = str(caught.value)
    for words in ("row 2: osl 'a'", "row 4: isl -1", "row 5: count 0", "row 6: osl ''", "row 7"):
        assert words in message
    assert "row 3" not in message


def test_many_bad_rows_are_counted():
    with pytest.raises(ValueError, match="and 5 more rows"):
        read_requests("context\n" + "x\n" * (MOST_ERRORS + 5))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must name the columns"),
        ("length\n3\n", "must name the columns"),
        ("isl\n3\n", "must name the columns"),
        ("context,isl,osl\n3,1,2\n", "contradict"),
        ("context\n", "no row"),
    ],
)
def test_a_bad_heading_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        read_requests(text)


def test_lengths_are_merged_at_their_mean():
    rng = np.random.default_rng(0)
    requests = [Request(float(c), float(t)) for c, t in rng.integers(1, 100000, (5000, 2))]
    classes = classes_of(requests, most=10)
    assert len(classes) <= 10
    assert sum(c.tokens for c in classes) == pytest.approx(1.0)
    total = sum(r.tokens for r in requests)
    mean = sum(r.context * r.tokens for r in requests) / total
    assert sum(c.context * c.tokens for c in classes) == pytest.approx(mean)
    assert classes == sorted(classes, key=lambda c: c.context)


def test_few_lengths_stay_as_they_are_and_batches_apart():
    requests = [Request(10.0, 1.0), Request(20.0, 2.0), Request(10.0, 1.0), Request(10.0, 4.0, 8.0)]
    assert classes_of(requests) == [
        Request(10.0, 0.25),
        Request(10.0, 0.5, 8.0),
        Request(20.0, 0.25),
    ]


def test_a_column_that_comes_twice_is_told():
    with pytest.raises(ValueError, match=r"mine\.csv: the first row names isl twice"):
        read_requests("isl,osl,ISL\n1,2,3\n", "mine.csv")
