"""A small serving problem and its brute force: every partition at every whole batch."""

import itertools

import numpy as np

from qsjax import catalog
from qsjax.cost.decode import evaluate
from qsjax.grid.axes import twin_of
from qsjax.grid.problem import Problem
from qsjax.records.checks import divisors
from qsjax.records.specs import KV_MODES, Partition, Records, Workload

GPU = catalog.hardware("h100-sxm")
MODEL = catalog.model("mixtral-8x7b")
CONTEXT = 65536.0
WORK = Workload(context=1.0)


def problem(convention="physical", gpus=8, context=CONTEXT, twins=(2.0,), **more):
    """Mixtral and a dense twin on one island: few partitions, batches of a few dozen."""
    arguments = {"gpus": gpus, "context": context, "twins": twins, "workload": WORK}
    return Problem(MODEL, GPU, convention=convention, **(arguments | more))


def specs_of(asked):
    """The shapes of each variant of a problem."""
    stated = asked.stated
    own, rules = stated.models[0].spec, stated.rules
    return [own, *(twin_of(own, q, definition=rules.twin) for q in stated.twins)]


def brute_force(asked, batches, spec=None, context=None):
    """The steps of all partitions at all `batches`, flat, by variant; and which of them run.

    What is listed is every combination of divisors, whatever the package lists.
    """
    stated = asked.stated
    gpus, context = stated.gpus[0], context or stated.contexts[0]
    all_degrees = [
        stated.searched.get(name) or [float(d) for d in divisors(int(gpus))]
        for name in ("tp", "ep", "pp", "dp", "kvp")
    ]
    modes = [KV_MODES["kvp"], KV_MODES["cp"]]
    listed = np.array(list(itertools.product(*all_degrees, modes)), float).T[..., None]
    split = Partition(**dict(zip(("tp", "ep", "pp", "dp", "kvp", "kv_mode"), listed, strict=True)))
    found, runs = [], []
    for model in [spec] if spec is not None else specs_of(asked):
        work = stated.models[0].workload.replace(context=context, batch=np.asarray(batches)[None])
        at = Records(model, stated.accelerators[0].spec, split, work, np.full((1, 1), gpus))
        step = evaluate(at, stated.rules)
        cap, shape = step.capacity, np.shape(step.tpot)

        def flat(x, shape=shape):
            return np.broadcast_to(np.asarray(x), shape).reshape(-1)

        names = ("tpot", "tokens_per_s_per_gpu", "tokens_per_s_per_user", "gpus")
        row = {name: flat(getattr(step, name)) for name in names}
        row["headroom"] = flat(1 - (cap.weights + cap.batch * cap.kv_per_sequence) / cap.usable)
        row["batch"] = flat(cap.batch)
        found.append(row)
        runs.append(flat(step.reasons) == 0)
    return found, runs
