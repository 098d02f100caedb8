"""`qsjax explain MODEL`: one stated deployment."""

import re
import sys
from pathlib import Path
from typing import Any

import click

from qsjax.catalog.lookup import NAME_MAX
from qsjax.cli import options, serving_options
from qsjax.cli.options import WHOLE, flag, names_of, verb
from qsjax.cost.speculation import ACCEPTANCE
from qsjax.output.files import content_of
from qsjax.output.result import Result
from qsjax.questions.explain import explain_command, is_command
from qsjax.records.specs import DEGREES

COPIES = ("replicas", "batch")
# Options of the verb that no engine or launcher has: after `--` they are slips.
OWN = ("--hardware", "--isl", "--osl", "--format", "--twins")
# Files that are models, and no scripts.
MODELS = (".toml", ".json", ".gguf", ".safetensors")
# Names that only files have.
SCRIPTS = (".sh", ".bash", ".sbatch", ".slurm", ".service", ".yaml", ".yml")
GPU = "Accelerator or TOML file.  [default: what a script asks for, or h100-sxm]"
AS_GIVEN = ("prefix_hit_rate", "acceptance", "weights", "kv", "convention", "level", "engine")


def _read_in(words: tuple[str, ...]) -> tuple[str, ...]:
    """Words with the text of the script or manifest that is named first, `-` for standard input.

    Flags of the engine may follow, which are put behind those of its server.

    Raises:
        ValueError: it cannot be read.
    """
    if not words or (len(words) > 1 and not words[1].startswith("-")):
        return words
    first, *more = words
    if first == "-":
        return (sys.stdin.read(), *more)
    is_name = len(first) <= NAME_MAX
    is_script = first.lower().endswith(SCRIPTS) and " " not in first
    is_file = is_name and (is_script or Path(first).is_file())
    if not is_file or first.lower().endswith(MODELS) or not re.search(r"[./]", first):
        return words
    if not (text := content_of(Path(first))).strip():
        raise ValueError(f"{first}: the file is empty; give one that starts a server")
    return (text, *more)


@verb("explain")
@options.model_argument
@click.argument("engine_flags", nargs=-1, type=click.UNPROCESSED)
@flag("--hardware", str, GPU, shell_complete=names_of("hardware"))
@options.engine_option
@flag("--gpus", WHOLE, "GPUs; copies of the design fill them.  [default: those of the design]")
@flag("--context", WHOLE, "Context length.  [default: 8k]")
@serving_options.request_options
@serving_options.prefix_option
@flag(
    "--acceptance",
    float,
    f"Chance that a draft is accepted, if the engine drafts.  [default: {ACCEPTANCE}]",
)
@options.axis_options
@options.dtype_options
@serving_options.economy_options
@options.level_option
def command(model: str, engine_flags: tuple[str, ...], **flags: Any) -> Result:
    r"""Take one deployment of MODEL apart: does it run, where do memory and time go.

    Beside it stands the best design on as many GPUs, also as flags of engines.

    MODEL:q=5 is the dense twin at that quality factor. Give the split by --tp, --ep, --pp, --dp,
    --kvp, or by the command line of an engine (vLLM, SGLang, TensorRT-LLM) after `--`, or by the
    file of a script or manifest that starts one (- for standard input); it also names the model,
    so MODEL may be left out. With --gpus alone the best split on that many
    GPUs is taken. Without --batch it is the largest that fits.

    \b
    Examples:
      qsjax explain deepseek-v3 --hardware h200-sxm --tp 8 --dp 8 --ep 64 --context 32k
      qsjax explain mixtral-8x7b --hardware h100-sxm --tp 8 --isl 4096 --osl 1024
      qsjax explain deepseek-v3 --hardware b200-sxm --gpus 16 --context 32k
      qsjax explain deepseek-v3 --hardware h200-sxm -- \
        vllm serve deepseek-ai/DeepSeek-V3 --tensor-parallel-size 8 \
        --data-parallel-size 4 --enable-expert-parallel --max-num-seqs 128
      qsjax explain --hardware b200 deploy.yaml
    """
    if slips := [word for word in engine_flags if word.partition("=")[0] in OWN]:
        raise ValueError(
            f"{slips[0]} is an option of qsjax, and what stands after `--` is the engine's; "
            f"write it before: qsjax explain {slips[0].partition('=')[0]} ... -- COMMAND LINE"
        )
    name: str | None = None
    line, changes = _read_in((model, *engine_flags)), dict[str, Any]()
    if line == (model, *engine_flags) and not is_command(model, *engine_flags):
        line = _read_in(engine_flags)
        name, changes = serving_options.changes_of(model, ("q",))
    one = {name: serving_options.one(name, flags[name]) for name in ("gpus", *DEGREES, *COPIES)}
    return explain_command(
        line,
        flags["hardware"],
        model=name,
        twins=changes.get("q", ()),
        design={name: one[name] for name in (*DEGREES, *COPIES)} | {"kv_mode": flags["kv_mode"]},
        gpus=one["gpus"],
        context=serving_options.one("context", serving_options.contexts_of(flags) or None),
        requests=serving_options.requests_of(flags),
        economy=serving_options.economy_flags(flags),
        **{name: flags[name] for name in AS_GIVEN},
    )
