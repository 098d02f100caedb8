"""A mix of lengths: reading it, merging lengths, and the split that is best for all."""

import numpy as np
import pytest
from listed_cases import GPU, brute_force
from tolerances import EXACT

from qsjax import catalog
from qsjax.cost.metrics import economy_of
from qsjax.grid.limits import Limits
from qsjax.questions.explain import partition_axes
from qsjax.questions.mix import MOST_ERRORS, Request, best_for_mix, classes_of, read_requests
from qsjax.records.scenario import Records
from qsjax.records.specs import PAPER, PHYSICAL, Partition, Workload

MODEL, WORK = catalog.model("mixtral-8x7b"), Workload(context=1.0)
CLASSES = [Request(32768.0, 0.5), Request(65536.0, 0.3), Request(131072.0, 0.2)]


def solve(classes, convention=PHYSICAL, limits=None):
    return best_for_mix(
        MODEL, GPU, WORK, 8, classes, convention, limits=limits or Limits(), economy=economy_of(GPU)
    )


@pytest.mark.parametrize("convention", [PHYSICAL, PAPER], ids=["physical", "paper"])
def test_the_split_is_that_of_brute_force(convention):
    time = 0.0
    own = 0.0
    for request in CLASSES:
        axes = partition_axes(8, request.context)
        records = Records(MODEL, GPU, Partition(), WORK)
        batches = np.arange(1.0, 351.0)
        found, runs = brute_force(records, axes, convention, batches)
        rate = np.where(runs, found["tokens_per_s_per_gpu"], 0.0)[0, 0].reshape(-1, len(batches))
        assert found["batch"][runs].max() < batches[-1]
        best = rate.max(axis=1)
        with np.errstate(divide="ignore"):
            time = time + request.tokens / best
        own += request.tokens / best.max()
    mix = solve(CLASSES, convention)
    # The ladder may leave out a batch that is best by a hair; its bound is 2 %.
    assert mix.rate == pytest.approx(1 / time.min(), rel=0.02)
    assert mix.rate <= (1 + EXACT) / time.min()
    assert mix.rate_of_own == pytest.approx(1 / own, rel=0.02)
    assert 0 <= mix.loss < 1
    assert mix.loss == pytest.approx(1 - mix.rate / mix.rate_of_own)


def test_one_class_loses_nothing():
    mix = solve(CLASSES[:1])
    assert mix.loss == pytest.approx(0.0, abs=1e-12)
    assert mix.design == mix.classes[0].own_design
    assert float(mix.partition.tp) == mix.design["tp"]


def test_shares_weigh_the_classes():
    mix = solve(CLASSES)
    time = sum(c.request.tokens / c.rate for c in mix.classes)
    assert mix.rate == pytest.approx(1 / time, rel=EXACT)
    assert all(c.rate <= c.own_rate * (1 + EXACT) for c in mix.classes)


def test_a_class_that_runs_nowhere_is_named():
    mix = solve([*CLASSES, Request(2.0**30, 0.1)])
    assert mix.partition is None
    assert mix.rate == mix.rate_of_own == 0
    assert mix.is_possible == (True, True, True, False)
    assert mix.loss == 0


def test_limits_hold_for_every_class():
    free = solve(CLASSES)
    bound = solve(CLASSES, limits=Limits(min_headroom=0.2, max_tp=2.0))
    assert bound.design["tp"] <= 2
    assert bound.rate < free.rate


def test_a_given_batch_is_kept():
    given = [request._replace(batch=4.0) for request in CLASSES]
    mix = solve(given)
    assert {c.batch for c in mix.classes} == {4.0}
    assert mix.rate < solve(CLASSES).rate


def test_requests_are_read():
    assert read_requests("context\n100\n200\n") == [Request(100.0, 1.0), Request(200.0, 1.0)]
    rows = read_requests("ISL, osl ,count,batch\n1000,200,3,\n\n0,10,,8\n")
    assert rows == [Request(1100.0, 600.0, None, 200.0), Request(5.0, 10.0, 8.0, 10.0)]
    assert read_requests("prompt_tokens,completion_tokens\n4,2\n") == [Request(5.0, 2.0, None, 2.0)]


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
