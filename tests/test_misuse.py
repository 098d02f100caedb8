"""What a notebook user gets wrong: names for records, numbers for lists, unknown objectives."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from click.testing import CliRunner

import qsjax
from qsjax.cli import cli
from qsjax.questions import explain, sensitivity

MODEL, GPU = qsjax.model("mixtral-8x7b"), qsjax.hardware("h100-sxm")
RECORDS = qsjax.Records(MODEL, GPU, qsjax.Partition(), qsjax.Workload(context=1.0))
ASK = [qsjax.explore, sensitivity.problem]


@pytest.mark.parametrize("ask", ASK)
def test_names_in_place_of_records_are_told_together(ask):
    with pytest.raises(ValueError, match=r".") as caught:
        ask("mixtral-8x7b", "h100-sxm", gpus=[8], contexts=[8192.0], overrides={"tp": [8]})
    assert "model: 'mixtral-8x7b' is no ModelSpec; give qsjax.model('mixtral-8x7b')" in str(
        caught.value
    )
    assert "hardware: 'h100-sxm' is no HardwareSpec; give qsjax.hardware('h100-sxm')" in str(
        caught.value
    )


def test_swapped_records_are_told_too():
    swap = "model: a HardwareSpec is no ModelSpec; hardware is one: swap the two"
    with pytest.raises(ValueError, match=swap):
        qsjax.explore(GPU, MODEL, gpus=[8])
    with pytest.raises(ValueError, match="workload: 8192 is no Workload; give Workload"):
        explain.explain(MODEL, GPU, qsjax.Partition(tp=8.0), 8192)
    with pytest.raises(ValueError, match="partition: 8 is no Partition; give Partition"):
        explain.explain(MODEL, GPU, 8, qsjax.Workload(context=8192.0))


@pytest.mark.parametrize("ask", [qsjax.model, qsjax.hardware, qsjax.workload])
def test_records_in_place_of_names_are_told(ask):
    """The precisions of one's own model are a `Workload`, not `workload(model)`."""
    with pytest.raises(ValueError, match="a ModelSpec is no name; give one of the catalogue"):
        ask(MODEL)
    with pytest.raises(ValueError, match="None is no name"):
        ask(None)


@pytest.mark.parametrize("ask", ASK)
@pytest.mark.parametrize(
    "single",
    [
        {"gpus": 8, "contexts": 8192, "qs": 3.0, "overrides": {"tp": 8, "kv_mode": "kvp"}},
        {"gpus": "8", "contexts": "8k", "qs": "3", "overrides": {"tp": "8", "kv_mode": ["kvp"]}},
        {"gpus": np.int32(8), "contexts": np.float32(8192), "qs": np.array(3), "overrides": {}},
        {"gpus": range(8, 9), "contexts": (8192,), "qs": jnp.array([3]), "overrides": {}},
    ],
)
def test_lists_are_read_from_whatever_holds_numbers(ask, single):
    found = ask(MODEL, GPU, **single)
    axes = found.axes if isinstance(found, sensitivity.Problem) else found.optimum.axes.kept
    assert [axis.values.tolist() for axis in axes[1:]] == [[8.0], [8192.0]]
    assert [variant.q for variant in found.variants] == [None, 3.0]


def test_an_unknown_objective_is_told_with_the_known_ones():
    known = "unknown objective 'speed'; give one of tokens_per_s_per_gpu, .*tpot"
    axes = qsjax.make_axes({"gpus": [8], "context": [8192.0], "dp": [8]})
    with pytest.raises(ValueError, match=known):
        qsjax.search(RECORDS, axes, qsjax.PHYSICAL, "speed")
    with pytest.raises(ValueError, match=known):
        qsjax.explore(MODEL, GPU, gpus=[8], contexts=[8192.0], objective="speed")
    with pytest.raises(ValueError, match=known):
        sensitivity.problem(MODEL, GPU, gpus=[8], contexts=[8192.0], objective="speed")


def test_ranges_tuples_and_arrays_are_lists():
    found = qsjax.explore(MODEL, GPU, gpus=range(8, 9), contexts=(8192,), qs=(3.0,))
    assert found.optimum.is_feasible.all()
    larger = dataclasses.replace(GPU, hbm_bytes=200e9)
    assert sensitivity.problem(MODEL, larger, gpus=[8], contexts=[8192.0], qs=()).cells == 1


class TestWorkload:
    def test_it_has_the_precisions_that_a_model_is_published_in(self):
        assert qsjax.workload("mixtral-8x7b").bytes_ffn_weight == 2.0
        assert qsjax.workload("mixtral-8x7b").ffn_dtype == "bf16"
        assert qsjax.workload("deepseek-v3").bytes_ffn_weight == 1.0
        assert qsjax.workload("mixtral-8x7b", weights="fp8", kv="fp8").bytes_kv == 1.0

    def test_without_it_python_and_the_command_line_agree(self):
        asked = {"gpus": [8], "contexts": [8192.0]}
        row = qsjax.best_rows(qsjax.explore(MODEL, GPU, **asked))[0]
        flags = ["--gpus", "8", "--context", "8k", "--hardware", "h100-sxm", "--format", "json"]
        said = CliRunner().invoke(cli, ["explore", "mixtral-8x7b", *flags]).stdout
        assert json.loads(said)["best"][0]["tpot_ms"] == row["tpot_ms"]

    def test_an_unknown_dtype_is_told_with_the_known_ones(self):
        with pytest.raises(ValueError, match="dtype 'int4' is unknown; give one of bf16, fp8, fp4"):
            qsjax.workload("mixtral-8x7b", weights="int4")
