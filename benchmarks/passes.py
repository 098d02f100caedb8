"""Passes of an engine by themselves, decode steps and steps with prompts, against the laws.

Run `python -m benchmarks.passes`: a line for every pass, and errors by kind. Nothing is fitted to
these passes: what a served record measures is the average of thousands.

Source of passes.csv: https://github.com/ai-dynamo/aiconfigurator (Apache-2.0), fpm_golden_runs and
collector/layerwise/fpm_ground_truth, vLLM 0.20.1 on B300, weights as published, cache in BF16:
medians of the passes of a kind, by the scheduler's clock. Qwen3.6-35B-A3B has the shape
of Qwen3.5-35B-A3B.
"""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.simulation import pass_time, records_of
from qsjax.evidence.measurements import Case, read_case
from qsjax.numerics.loading import in_float64
from qsjax.questions.simulation.steps import StepTable, step_table
from qsjax.records.units import MS

TABLE = Path(__file__).with_name("passes.csv")
SERVED = {
    "id": "pass",
    "category": "inferencex_agg",
    "gpu": "b300-sxm",
    "engine": "vllm 0.20.1",
    "kv_dtype": "bf16",
    "concurrency": 8,
    "isl": 4096,
    "osl": 1024,
    "metric": "TPOT",
    "value": 10.0,
    "unit": "ms",
    "speculation": "none",
    "source": "",
}


def table_of(model: str, tp: int, ep: int) -> StepTable:
    """What the steps of a deployment cost by the laws, with the constants of its engine."""
    case = read_case({**SERVED, "model": model, "n_gpus": tp, "tp": tp, "ep": ep})
    assert isinstance(case, Case), case
    one = case.deployments[0]
    return step_table(records_of(one), one.convention, (4096.0, 8192.0))


@in_float64
def rows() -> pd.DataFrame:
    """The measured passes with what the laws say of them [ms], and their errors."""
    found = pd.read_csv(TABLE, comment="#")
    for deployment, some in found.groupby(["model", "tp", "ep"]):
        table = table_of(*deployment)
        for at, row in some.iterrows():
            seconds = pass_time(
                table, row.prompts, row.prompt_tokens, row.sequences, max(row.context, 1.0)
            )
            found.loc[at, "law_ms"] = float(seconds) / MS
    found["error_pct"] = 100.0 * (found.law_ms / found.ms - 1.0)
    return found


def kind(row: pd.Series) -> str:
    """What fills a pass."""
    if not row.prompts:
        return "decode steps"
    return "prompts beside answers" if row.sequences else "prompts"


def summary(found: pd.DataFrame) -> dict[tuple[str, str], tuple[int, float, float]]:
    """Count, median of the absolute error and bias [%] by model and kind of pass."""
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    for _, row in found.iterrows():
        groups[row.model, kind(row)].append(row.error_pct)
    return {
        key: (len(errors), float(np.median(np.abs(errors))), float(np.median(errors)))
        for key, errors in groups.items()
    }


def main() -> None:
    """Print every pass, and errors by model and kind."""
    found = rows()
    print(found.round(2).to_string(index=False))
    for (model, what), (count, median, bias) in summary(found).items():
        print(f"{model}, {what}: {count} passes, median {median:.0f} %, bias {bias:+.0f} %")


if __name__ == "__main__":
    main()
