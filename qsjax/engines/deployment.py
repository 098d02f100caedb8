"""A deployment in this package's terms, between the engines."""

import dataclasses

from qsjax.records.specs import KV_HELIX


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One deployment in this package's terms; None where the flags do not say.

    Attributes:
        tp: attention ranks that split heads.
        ep: expert ranks of a stage.
        pp: pipeline stages.
        dp: attention replicas that share one expert pool.
        kvp: ranks that split a sequence's cache.
        kv_mode: code of `specs.KV_MODES`.
        gathers_queries: the ranks of `kvp` share the weights, as `Partition` says.
        replicas: separate copies of all this, with nothing between them.
        batch: sequences of an attention replica.
        context: longest context that the engine accepts [tokens].
        usable_fraction: share of the HBM that the engine may fill, its own buffers included.
        static_fraction: share of the free HBM that weights and cache alone may fill.
        free_fraction: share of the HBM that is free beside the weights that the cache may fill.
        batched_tokens: tokens of a forward pass that the engine makes room for.
        bytes_kv: bytes of a cache element.
        bytes_state: bytes of an element of a recurrent state.
        weights: dtype of the weights, of a model whose own config says none.
        loader: what `--quantization` names; `precision.weights_of` weighs it with the config.
        kv_block: tokens of a cache block.
        drafts: tokens that a step drafts one after the other.
        drafter: who drafts, a method of `cost.speculation`; None without speculation.
        verified: tokens of each sequence that a step runs.
        model: name or path of the model.
        expert_kernels: what multiplies the experts, as the engine calls it.
        engine: whose command line it is.
        release: of the engine, as an image or a package says it; "" where none does.
        overlapped: whether a flag has the host work while steps run; None where none says.
        words: the command line itself, with the words of a settings file: these tell the kernels.
        notes: what the flags mean differently here, one sentence each.
    """

    tp: float = 1.0
    ep: float = 1.0
    pp: float = 1.0
    dp: float = 1.0
    kvp: float = 1.0
    kv_mode: float = KV_HELIX
    gathers_queries: bool = False
    replicas: float = 1.0
    batch: float | None = None
    context: float | None = None
    usable_fraction: float | None = None
    static_fraction: float | None = None
    free_fraction: float | None = None
    batched_tokens: float | None = None
    bytes_kv: float | None = None
    bytes_state: float | None = None
    weights: str | None = None
    loader: str | None = None
    kv_block: float | None = None
    drafts: float | None = None
    drafter: str | None = None
    verified: float | None = None
    model: str | None = None
    expert_kernels: str | None = None
    engine: str | None = None
    release: str = ""
    overlapped: bool | None = None
    words: str = ""
    notes: tuple[str, ...] = ()

    @property
    def gpus(self) -> float:
        """GPUs of all replicas."""
        return self.replicas * self.dp * self.pp * self.kvp * self.tp
