"""One batch that holds a whole distribution of contexts, as continuous batching serves it.

What a step reads, computes and holds for a sequence is linear in its context, but for three terms
that saturate: a window, a learned selection of tokens, and whole blocks of cache. So a batch costs
what one of its mean costs, with these three averaged over the distribution instead of being taken
at its mean. Formulas: docs/concepts/cost-model.md, section "A batch of many contexts".
"""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from qsjax.cost.decode import StepCost
from qsjax.cost.metrics import Economy
from qsjax.grid.batches import score_candidates
from qsjax.grid.limits import Limits
from qsjax.grid.screening import Candidates, candidates, design_labels
from qsjax.numerics.safe import scalar
from qsjax.questions.explain import partition_axes
from qsjax.questions.mix import Request
from qsjax.questions.serving import design_at, winner
from qsjax.records.scenario import Records
from qsjax.records.specs import Convention, HardwareSpec, ModelSpec, Partition, Workload


def _spans(requests: Sequence[Request]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Share of the batch, and first and last context, of each request."""
    context, tokens, output = np.array([[r.context, r.tokens, r.output] for r in requests]).T
    # A slot of the batch makes one token a step, so slots are held in proportion to the output.
    half = np.minimum(0.5 * output, context)
    return tokens / tokens.sum(), context - half, context + half


def mean_of(requests: Sequence[Request], limit: float = np.inf) -> float:
    """Mean of min(context, limit) over the slots of a batch [tokens].

    The context of a request rises evenly while it decodes.

    >>> mean_of([Request(100.0, 1.0), Request(300.0, 3.0)], 200.0)
    175.0
    """
    share, low, high = _spans(requests)
    width = np.where(high > low, high - low, 1.0)
    cut = np.clip(limit, low, high)
    # Below the limit the context itself counts, above it the limit.
    below = 0.5 * (cut - low) * (cut + low)
    above = (high - cut) * min(limit, np.finfo(float).max)
    mean = np.where(high > low, (below + np.where(high > cut, above, 0.0)) / width, cut)
    return float(np.sum(share * np.where(low >= limit, limit, mean)))


def mean_of_blocks(requests: Sequence[Request], block: float) -> float:
    """Mean cache held by a slot of a batch, whole blocks of it [tokens].

    >>> mean_of_blocks([Request(100.0, 1.0), Request(128.0, 1.0)], 64.0)
    128.0
    """
    share, low, high = (x / scale for x, scale in zip(_spans(requests), (1, block, block),
                                                      strict=True))  # fmt: skip

    def area(x: np.ndarray) -> np.ndarray:
        """Integral of ceil from 0 to x."""
        whole = np.floor(x)
        result: np.ndarray = 0.5 * whole * (whole + 1.0) + (x - whole) * (whole + 1.0)
        return result

    width = np.where(high > low, high - low, 1.0)
    blocks = np.where(high > low, (area(high) - area(low)) / width, np.ceil(high))
    return float(block * np.sum(share * blocks))


def averaged(
    model: ModelSpec, workload: Workload, requests: Sequence[Request]
) -> tuple[ModelSpec, Workload]:
    """The model and workload whose single context costs what the distribution costs.

    Every law reads the context as itself, as min(context, window), as min(context, top-k of a
    learned selection), or in whole blocks; each is replaced by its mean. A mean is not above that
    of the context, so that the records limit themselves just there. With blocks of more than one
    token, sequences shorter than a window count it without the rounding of their last block.
    """
    context = mean_of(requests)
    selected = scalar(model.sparse_topk)
    spec = dataclasses.replace(
        model,
        window=mean_of(requests, scalar(model.window)),
        sparse_topk=mean_of(requests, selected) if selected > 0 else 0.0,
    )
    # One block of the size that is held on average: ceil(context / block) is then 1.
    held = max(context, mean_of_blocks(requests, scalar(workload.kv_block)))
    return spec, dataclasses.replace(workload, context=context, kv_block=held, batch=None)


def _only(found: Candidates, position: np.ndarray) -> Candidates:
    """The candidates at these positions."""
    keep = np.isin(found.position, position)
    return found._replace(
        records=jax.tree.map(lambda x: x[keep] if x.ndim else x, found.records),
        position=found.position[keep],
        largest=found.largest[keep],
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Together:
    """The best split for one batch of all requests.

    Attributes:
        context: mean over the slots of the batch [tokens].
        design: values of the searched axes; empty if nothing runs.
        partition: the same as a record; None then.
        batch: sequences per attention replica.
        step: cost of the step; None if nothing runs.
    """

    context: float
    design: dict[str, float | str]
    partition: Partition | None
    batch: float
    step: StepCost | None


def best_together(
    model: ModelSpec,
    hardware: HardwareSpec,
    workload: Workload,
    gpus: int,
    requests: Sequence[Request],
    convention: Convention,
    *,
    limits: Limits,
    economy: Economy,
) -> Together:
    """The split and batch with the most tokens/s/GPU for a batch composed of the requests.

    The batch is taken to be large enough to hold its mean: with few sequences the cache that is
    needed varies around it, and an engine then preempts some of them. The longest request must fit
    on its own.

    Args:
        model: shapes.
        hardware: accelerator.
        workload: dtypes; context and batch come from the requests.
        gpus: GPUs of the design.
        requests: as read, not merged into classes.
        convention: accounting.
        limits: what the design must keep.
        economy: price and power.

    Raises:
        ValueError: the requests ask for batches of several sizes.
    """
    asked = sorted({request.batch for request in requests if request.batch is not None})
    if len(asked) > 1 or (asked and any(request.batch is None for request in requests)):
        listed = ", ".join(f"{batch:g}" for batch in asked)
        raise ValueError(
            f"one batch for all lengths cannot have several sizes at once ({listed}); give all "
            "rows the same batch, or none"
        )
    spec, work = averaged(model, workload, requests)
    context = scalar(work.context)
    axes = partition_axes(gpus, context)
    found = candidates(Records(spec, hardware, Partition(), work), axes, (0, 0), convention)
    # The mean may fit where the longest sequence alone does not.
    longest = partition_axes(gpus, float(_spans(requests)[2].max()))
    alone = Records(model, hardware, Partition(), dataclasses.replace(workload, batch=None))
    found = _only(found, candidates(alone, longest, (0, 0), convention).position)
    batches = np.array(asked) if asked else None
    scores = score_candidates(found, limits, economy, convention, batches=batches)
    row = winner(scores)
    if row is None:
        return Together(context, {}, None, 0.0, None)
    best = design_at(found, row, float(scores.batch[row]), convention)
    return Together(
        context=context,
        design=design_labels(axes, int(found.position[row])),
        partition=best.records.partition,
        batch=float(scores.batch[row]),
        step=best.step,
    )
