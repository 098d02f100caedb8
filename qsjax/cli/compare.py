"""`qsjax compare A B ...`: models, accelerators and what-ifs side by side."""

from typing import Any

import click

from qsjax.cli import options, serving_options
from qsjax.cli.grid_options import problem_of
from qsjax.cli.options import verb
from qsjax.grid.parameters import GROUPS
from qsjax.grid.served import Served, as_accelerator, served
from qsjax.numerics.safe import scalar
from qsjax.output.result import Result
from qsjax.questions.compare import Subject, compare
from qsjax.records.specs import HardwareSpec, replace

CONTEXTS = (1024.0, 8192.0, 32768.0, 131072.0)


@verb("compare")
@click.argument("subjects", nargs=-1, required=True, shell_complete=options.names_of("model"))
@options.system_options
@options.workload_options("1k,8k,32k,128k")
@serving_options.request_options
@serving_options.prefix_option
@options.batch_option
@serving_options.target_options
@options.level_option
def command(subjects: tuple[str, ...], **flags: Any) -> Result:
    r"""Put SUBJECTS side by side: who is faster, by how much, at which price, why.

    A subject is MODEL[:CHANGES][@ACCELERATOR[:CHANGES]]. A model's changes are q=5 (its dense twin
    at that factor), kv=fp8, weights=fp4, acceptance=0.85 (speculation) and drafts=2; those of an
    accelerator are its fields (`qsjax hardware show`), hbm_bw=6TB/s or, twice it, hbm_bw=x2, and
    groups of them (flops=x2, link_bw, latency). One subject alone is compared over several
    --hardware, or with its dense twins. Several values of --batch are compared one by one.

    \b
    Examples:
      qsjax compare deepseek-v3 deepseek-v3:q=3 qwen3-235b-a22b --hardware h200-sxm
      qsjax compare llama-3.1-70b --hardware h100-sxm,h200-sxm,b200-sxm --isl 4096 --osl 1024
      qsjax compare llama-3.1-70b llama-3.1-70b@h100-sxm:hbm_bw=x2 --gpus 8 --context 32k
    """
    serving_options.one("gpus", flags["gpus"])
    models: dict[str, Served] = {}
    devices: dict[str, HardwareSpec] = {}
    names = [name.strip() for name in flags["hardware"].split(",")]
    texts = list(subjects)
    if len(texts) == 1 and "@" not in texts[0] and len(names) > 1:
        texts = [f"{texts[0]}@{name}" for name in names]
    named = {text: _subject(text, names[0], flags, models, devices) for text in texts}
    (first, *_) = named.items()
    if len(texts) == 1 and first[1].q is None and next(iter(models.values())).spec.is_moe:
        model, at, device = first[0].partition("@")
        mark = "," if ":" in model else ":"
        named |= {
            f"{model}{mark}q={q:g}{at}{device}": first[1]._replace(q=q) for q in flags["twins"]
        }
    twins = list(dict.fromkeys(s.q for s in named.values() if s.q is not None))
    problem = problem_of(
        list(models.values()),
        flags | {"twins": twins, "weights": None, "kv": None},
        CONTEXTS,
        hardware=list(devices.values()),
    )
    requests = serving_options.requests_of(flags)
    more = {name: flags[name] for name in ("prefix_hit_rate", "level")}
    return compare(problem, named, requests=requests, **more)


def _subject(
    text: str,
    device: str,
    flags: dict[str, Any],
    models: dict[str, Served],
    devices: dict[str, HardwareSpec],
) -> Subject:
    """A subject as it is written; its model and accelerator join the lists."""
    left, _, right = text.partition("@")
    name, changes = serving_options.changes_of(left, serving_options.MODEL_CHANGES)
    q = changes.pop("q", None)
    asked = {"weights": flags["weights"], "kv": flags["kv"]} | changes
    model = served(name, **asked)
    if q is not None and not model.spec.is_moe:
        raise ValueError(f"{text!r}: {name} has no experts, so it has no dense twin; drop q={q:g}")
    models.setdefault(model.name, model)
    chip_name, fields = serving_options.changes_of(right or device)
    chip = as_accelerator(chip_name).spec
    known = {
        field: scalar(getattr(chip, field, 1.0)) * float(value[1:]) if value[:1] == "x" else value
        for given, value in fields.items()
        for field in (GROUPS.get(given, (given,)) if value[:1] == "x" else (given,))
    }
    chip = replace(chip, **known) if known else chip
    devices.setdefault(chip.label, chip)
    return Subject(list(models).index(model.name), list(devices).index(chip.label), q)
