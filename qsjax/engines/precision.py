"""Which dtype weights have when a flag names a quantisation and the model's own config another."""

from qsjax.engines.deployment import Deployment
from qsjax.engines.rules import load_flags


def weights_of(own: str, deployment: Deployment) -> tuple[str | None, tuple[str, ...]]:
    """The dtype that replaces the model's own, None to keep it; and what to say of it.

    A loader's name (`modelopt`, `compressed-tensors`) is no dtype: it loads what the config says. A
    name of a width is that of a checkpoint: the narrower of the two is what is served, for engines
    quantise BF16 and FP8 weights and never widen.

    >>> weights_of("fp4", Deployment(loader="modelopt", weights="fp8"))[0] is None
    True
    >>> weights_of("bf16", Deployment(loader="fp8", weights="fp8"))
    ('fp8', ())
    """
    asked, loader = deployment.weights, deployment.loader
    if loader is None:
        return asked, ()
    is_loader = loader in load_flags()["loaders"]
    if asked is None and own == "bf16":
        return None, (
            f"--quantization {loader} names a loader, and the model's config no quantisation: its "
            "weights count as bf16; --weights says what they are",
        )
    if own == "bf16":
        kind = " or what a checkpoint of that kind has" if is_loader else ""
        return asked, ((f"--quantization {loader} reads as {asked}{kind}",) if kind else ())
    if asked == own:
        return None, ()
    if not is_loader and (asked, own) == ("fp4", "fp8"):
        return asked, (
            f"the model's own weights are {own}, but --quantization {loader} serves a checkpoint "
            f"in {asked}",
        )
    return None, (
        f"the weights stay in {own}, as the model's own config says: --quantization {loader} does "
        "not change them",
    )
