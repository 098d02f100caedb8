"""One batch that holds a whole distribution of contexts, as continuous batching serves it.

What a step reads, computes and holds for a sequence is linear in its context, but for three terms
that saturate: a window, a learned selection of tokens, and whole blocks of cache. So a batch costs
what one of its mean costs, with these three averaged over the distribution instead of being taken
at its mean. Formulas: docs/concepts/cost-model.md, section "A batch of many contexts".
"""

from collections.abc import Sequence

import numpy as np

from qsjax.grid.parameters import Inputs, write
from qsjax.questions.mix.requests import Request


def spans(requests: Sequence[Request]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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
    share, low, high = spans(requests)
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
    share, low, high = (x / scale for x, scale in zip(spans(requests), (1, block, block),
                                                      strict=True))  # fmt: skip

    def area(x: np.ndarray) -> np.ndarray:
        """Integral of ceil from 0 to x."""
        whole = np.floor(x)
        return 0.5 * whole * (whole + 1.0) + (x - whole) * (whole + 1.0)

    width = np.where(high > low, high - low, 1.0)
    blocks = np.where(high > low, (area(high) - area(low)) / width, np.ceil(high))
    return float(block * np.sum(share * blocks))


def averaged(row: Inputs, requests: Sequence[Request]) -> Inputs:
    """The inputs of one row whose single context costs what the distribution costs.

    Every law reads the context as itself, as min(context, window), as min(context, top-k of a
    learned selection), or in whole blocks; each is replaced by its mean. A mean is not above that
    of the context, so that the records limit themselves just there. With blocks of more than one
    token, sequences shorter than a window count it without the rounding of their last block.
    """
    model = row.model
    fields = (model.window, model.sparse_topk, model.entry_tokens, row.workload.kv_block)
    window, selected, entry, block = (float(np.ravel(np.asarray(x))[0]) for x in fields)
    entry = entry or 1.0
    context = mean_of(requests)
    found = {
        "context": context,
        "window": mean_of(requests, window),
        "sparse_topk": mean_of(requests, selected * entry) / entry if selected > 0 else 0.0,
        # One block of the size that is held on average: ceil(context / block) is then 1.
        "kv_block": max(context, mean_of_blocks(requests, block)),
    }
    return write(row, {name: np.full(np.shape(row.q), value) for name, value in found.items()})
