"""What a notebook user gets wrong: names for records, numbers for lists, unknown objectives."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from click.testing import CliRunner

import qsjax
from qsjax.cli import cli
from qsjax.questions import explain

MODEL, GPU = qsjax.model("mixtral-8x7b"), qsjax.hardware("h100-sxm")


def test_swapped_records_are_told():
    swap = "model: a HardwareSpec is no ModelSpec; hardware is one: swap the two"
    with pytest.raises(ValueError, match=swap):
        explain.explain(GPU, MODEL, qsjax.Partition(tp=8.0), qsjax.Workload(context=8192.0))
    with pytest.raises(ValueError, match="workload: 8192 is no Workload; give Workload"):
        explain.explain(MODEL, GPU, qsjax.Partition(tp=8.0), 8192)
    with pytest.raises(ValueError, match="partition: 8 is no Partition; give Partition"):
        explain.explain(MODEL, GPU, 8, qsjax.Workload(context=8192.0))
    with pytest.raises(ValueError, match="a HardwareSpec is no ModelSpec"):
        qsjax.Problem(GPU, MODEL, gpus=[8])


@pytest.mark.parametrize("ask", [qsjax.model, qsjax.hardware, qsjax.workload])
def test_records_in_place_of_names_are_told(ask):
    """The precisions of one's own model are a `Workload`, not `workload(model)`."""
    with pytest.raises(ValueError, match="a ModelSpec is no name; give one of the catalogue"):
        ask(MODEL)
    with pytest.raises(ValueError, match="None is no name"):
        ask(None)


@pytest.mark.parametrize(
    "single",
    [
        {"gpus": 8, "context": 8192, "twins": 3.0, "axes": {"tp": 8, "kv_mode": "kvp"}},
        {"gpus": "8", "context": "8k", "twins": "3", "axes": {"tp": "8", "kv_mode": ["kvp"]}},
        {"gpus": np.int32(8), "context": np.float32(8192), "twins": np.array(3), "axes": {}},
        {"gpus": range(8, 9), "context": (8192,), "twins": jnp.array([3]), "axes": {}},
    ],
)
def test_numbers_are_read_from_whatever_holds_them(single):
    stated = qsjax.Problem(MODEL, GPU, **single).stated
    assert (stated.gpus, stated.contexts, stated.twins) == ((8.0,), (8192.0,), (3.0,))


def test_an_unknown_objective_is_told_with_the_nearest_ones():
    with pytest.raises(ValueError, match="'tokens_per_gpu' is not a metric; nearest names: tok"):
        qsjax.Problem(MODEL, GPU, gpus=[8], context=[8192.0], objective="tokens_per_gpu")


class TestWorkload:
    def test_it_has_the_precisions_that_a_model_is_published_in(self):
        assert qsjax.workload("mixtral-8x7b").bytes_ffn_weight == 2.0
        assert qsjax.workload("mixtral-8x7b").ffn_dtype == "bf16"
        assert qsjax.workload("deepseek-v3").bytes_ffn_weight == 1.0
        assert qsjax.workload("mixtral-8x7b", weights="fp8", kv="fp8").bytes_kv == 1.0

    def test_without_it_python_and_the_command_line_agree(self):
        row = qsjax.explore(qsjax.Problem(MODEL, GPU, gpus=[8], context=[8192.0])).rows()[0]
        flags = ["--gpus", "8", "--context", "8k", "--hardware", "h100-sxm", "--format", "json"]
        said = CliRunner().invoke(cli, ["explore", "mixtral-8x7b", *flags]).stdout
        assert json.loads(said)["best"][0]["tpot"] == row["tpot"]

    def test_an_unknown_dtype_is_told_with_the_known_ones(self):
        with pytest.raises(ValueError, match="dtype 'int4' is unknown; give one of bf16, fp8, fp4"):
            qsjax.workload("mixtral-8x7b", weights="int4")
