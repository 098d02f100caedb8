"""Parameters of configs agree with those that transformers counts in the models that it builds.

`python -m benchmarks.transformers_counts` writes the counts, in an environment with torch.
"""

import json
from pathlib import Path

import pytest

from qsjax import catalog
from qsjax.cost.laws import params

DATA = Path(__file__).parent / "data"
COUNTS = json.loads((DATA / "transformers_counts.json").read_text("utf-8"))["counts"]


@pytest.mark.parametrize("name", COUNTS)
def test_matrices_are_as_many_as_transformers_builds(name, tmp_path):
    found = COUNTS[name]
    path = DATA / "hf_configs" / name
    if "config" in found:
        path = tmp_path / "config.json"
        path.write_text(json.dumps(found["config"]), "utf-8")
    total = float(params.total_params(catalog.load_hf(path).spec))
    assert total == pytest.approx(found["matrices"], rel=1e-3)
