"""Advice of errors works: what a message tells a user to give is accepted when it is given."""

import re

import pytest

from qsjax import catalog
from qsjax.grid.problem import Problem
from qsjax.questions.explore import explore
from qsjax.records.checks import check_axes, check_partition, check_records, value_problem
from qsjax.records.fields import choices_of, facts_of
from qsjax.records.precision import workload_of
from qsjax.records.specs import (
    DEGREES,
    PHYSICAL,
    Convention,
    HardwareSpec,
    ModelSpec,
    Partition,
    Precision,
    Workload,
)

MODEL, GPU = catalog.model("llama-3.1-8b"), catalog.hardware("h100-sxm")
RECORDS = (ModelSpec, HardwareSpec, Partition, Workload, Convention, Precision)
FACTS = [(kind, name, fact) for kind in RECORDS for name, fact in facts_of(kind).items()]


def said(call, *args, **given):
    with pytest.raises(ValueError, match=r".") as caught:
        call(*args, **given)
    return str(caught.value)


@pytest.mark.parametrize(("kind", "name", "fact"), FACTS)
def test_bounds_that_a_message_names_are_allowed(kind, name, fact):
    """Each number of "give a whole number from 1 to 1e+09", read back as a user would type it."""
    advice = value_problem(fact.rule, -1.0).partition("give ")[2]
    words = advice.partition(",")[0].split()
    bounds = [word for word in words if re.fullmatch(r"[\d.e+-]+", word)]
    assert bounds
    for word in bounds:
        is_open = words[words.index(word) - 1] == "above"
        value = float(word) + (1e-9 if is_open else 0.0)
        assert value_problem(fact.rule, value) is None, advice
        if not is_open and kind is not Precision:
            assert check_axes({name: word if name != "kv_mode" else "none"})


@pytest.mark.parametrize("kind", [Convention, Workload])
def test_choices_that_a_message_names_are_allowed(kind):
    sound = {Convention: PHYSICAL, Workload: Workload(context=1.0)}[kind]
    key = kind.__name__.lower()
    for name in choices_of(kind):
        text = said(check_records, **{key: sound.replace(**{name: "?"})})
        listed = re.search(rf"{name}: '\?' is not allowed; give one of (.*)", text)[1].split(", ")
        assert len(listed) > 1
        for word in listed:
            value = {"True": True, "False": False}.get(word, word)
            check_records(**{key: sound.replace(**{name: value})})
        # A slip of the finger is told with the right word.
        if listed[0] != "True":
            slip = said(check_records, **{key: sound.replace(**{name: listed[0] + "x"})})
            nearest = re.search(r"did you mean (\w+)\?", slip)[1]
            check_records(**{key: sound.replace(**{name: nearest})})


@pytest.mark.parametrize(("degree", "value"), [("tp", 3.0), ("pp", 33.0), ("ep", 3.0)])
def test_a_divisor_that_is_advised_is_legal(degree, value):
    model = catalog.model("mixtral-8x7b")
    text = said(check_partition, Partition(**{degree: value}), model)
    if degree == "pp":
        advised = [re.search(r"exceeds the (\d+) layers; lower it", text)[1]]
    else:
        advised = re.search(r"choose a divisor of \d+: (.*)", text)[1].split(", ")
    for one in advised:
        check_partition(Partition(**{degree: float(one)}), model)


def test_a_number_of_kv_heads_that_is_advised_is_legal():
    text = said(check_records, model=MODEL.replace(kv_heads=5.0))
    for one in re.search(r"choose a divisor of \d+: (.*)", text)[1].split(", "):
        check_records(model=MODEL.replace(kv_heads=float(one)))


def test_swapping_what_is_swapped_works():
    text = said(check_records, model=GPU, hardware=MODEL)
    assert "model: a HardwareSpec is not a ModelSpec; hardware is one: swap the two" in text
    check_records(model=MODEL, hardware=GPU)


def test_the_call_that_is_advised_gives_a_record():
    for name, known in (("model", "mixtral-8x7b"), ("hardware", "h100-sxm")):
        text = said(check_records, **{name: known})
        kind, argument = re.search(r"give qsjax\.(\w+)\((.*)\)", text).groups()
        check_records(**{name: getattr(catalog, kind)(argument.strip("'"))})


def test_keys_that_a_file_should_have_are_read():
    text = said(catalog.hardware, hbm_capacity=80)
    keys = re.findall(r"write (.*)", text)[0].split(" or ")
    for key in keys:
        assert catalog.hardware("h100-sxm", **{key: 1}).hbm_bytes > 0
    missing = re.findall(r"^  (\S.*) is missing$", text, re.MULTILINE)
    missing = [keys for keys in missing if not keys.endswith("unit")]
    assert len(missing) == 5
    whole = {group.split(" or ")[0]: 1 for group in missing}
    check_records(hardware=catalog.hardware(hbm_capacity_gb=80, **whole))
    slip = said(catalog.hardware, "h100", hbm_bandwith_tb_per_s=6)
    near = re.search(r"did you mean (\w+)", slip)[1]
    assert catalog.hardware("h100", **{near: 6}).hbm_bw == 6e12


def test_names_that_are_near_exist():
    for find, slip in ((catalog.model, "mixtral-8x77b"), (catalog.hardware, "h10")):
        names = re.search(r"did you mean (.*?)\?", said(find, slip))[1].split(" or ")
        assert all(find(name) for name in names)
    fields = re.search(r"did you mean (.*)\?", said(GPU.replace, hbm_bandwith=1.0))[1]
    for name in fields.split(" or "):
        GPU.replace(**{name: 1.0})
    axes = re.search(r"did you mean (.*)\?", said(check_axes, {"hbm_bandwidth": [1.0]}))[1]
    for name in axes.split(" or "):  # with its unit
        check_axes({name.partition(" [")[0]: [1.0]})


def test_dtypes_that_are_named_are_known():
    text = said(workload_of, MODEL, weights="int4", context=1.0)
    for dtype in re.search(r"give one of (.*)", text)[1].split(", "):
        workload_of(MODEL, weights=dtype, kv=dtype, context=1.0)


@pytest.mark.parametrize("gpus", ["8", 8, [8], ["8"], "8,16", (8, 16)])
def test_counts_are_read_however_they_are_given(gpus):
    stated = Problem("mixtral-8x7b", "h100-sxm", gpus=gpus, context="8k").stated
    assert stated.gpus[0] == 8.0
    assert stated.contexts == (8192.0,)


def test_the_axes_that_are_advised_can_be_searched():
    asked = {"gpus": 10**6, "context": 8192}
    text = said(explore, Problem("mixtral-8x7b", "h100-sxm", **asked))
    names = re.search(r"such as \[1, 2, 4, 8\] for each of (.*)", text)[1].split(", ")
    assert names == list(DEGREES)
    axes = {name: [1, 2, 4, 8] for name in names}
    stated = Problem("mixtral-8x7b", "h100-sxm", axes=axes, **asked)
    assert explore(stated).rows()[0]["is_feasible"]
