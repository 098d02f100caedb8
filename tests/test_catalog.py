"""The catalogue's models: counts against what their publishers say, names, sources."""

import dataclasses
import difflib
import re
import tomllib
from pathlib import Path

import jax
import pytest

from qsjax import catalog
from qsjax.catalog import lookup
from qsjax.cost.laws import params
from qsjax.cost.laws.memory import kv_bytes_per_sequence
from qsjax.records import checks, precision
from qsjax.records.fields import facts_of, numbers_of
from qsjax.records.specs import PHYSICAL, ModelSpec, Partition, Precision
from qsjax.records.tables import table

DATA = Path(catalog.__file__).parent / "data"
PUBLISHED = 0.01
EVERY_MODEL = pytest.mark.parametrize("name", catalog.model_names())

# Matrix parameters added up by hand from each config.json.
EXACT_TOTALS = {
    "deepseek-v2": 235_740_692_480,
    "deepseek-v3": 671_025_397_760,
    "ernie-4.5-21b-a3b": 21_825_290_240,
    "glm-4.5": 352_795_525_120,
    "gpt-oss-120b": 116_788_838_400,
    "granite-4.0-h-small": 32_206_393_344,
    "jamba-1.5-mini": 51_569_360_896,
    "kimi-k2": 1_026_407_202_816,
    "kimi-linear-48b-a3b": 49_122_459_648,
    "lfm2.5-8b-a1b": 8_467_755_008,
    "llama-3.1-405b": 405_849_243_648,
    "llama-3.1-70b": 70_552_387_584,
    "llama-3.1-8b": 8_029_995_008,
    "llama-2-13b": 13_015_449_600,
    "minimax-m2.5": 228_688_920_576,
    "mixtral-8x22b": 140_619_939_840,
    "mixtral-8x7b": 46_702_526_464,
    "qwen3-235b-a22b": 235_092_836_352,
    "qwen3-32b": 32_761_446_400,
    "seed-oss-36b": 36_149_657_600,
}


def counted(entry, which):
    count = {"total": params.total_params, "active": params.active_params}[which]
    return float(count(entry.spec))


@pytest.mark.parametrize("name", EXACT_TOTALS)
def test_total_is_exact(name):
    assert float(params.total_params(catalog.model(name))) == EXACT_TOTALS[name]


@pytest.mark.parametrize("which", ["total", "active"])
@EVERY_MODEL
def test_count_agrees_with_the_published_one(name, which):
    entry = catalog.model_entry(name)
    published = getattr(entry, f"published_{which}")
    excepted = {deviation.of: deviation for deviation in entry.deviations}
    if published is None:
        assert which not in excepted, "an exception to nothing"
        return
    ratio = counted(entry, which) / published
    if which not in excepted:
        assert abs(ratio - 1) <= PUBLISHED, f"{ratio:.4f}: mend the shape or explain it"
        return
    assert abs(ratio - 1) > PUBLISHED, "the exception is not needed any more"
    assert ratio == pytest.approx(excepted[which].ratio, abs=5e-5), "another reason by now?"
    assert excepted[which].reason


@EVERY_MODEL
def test_entry_is_complete(name):
    entry = catalog.model_entry(name)
    assert entry.title
    assert entry.source
    assert entry.published_total
    assert entry.published_source
    assert entry.max_context >= 512
    assert len({deviation.of for deviation in entry.deviations}) == len(entry.deviations)
    checks.check_records(model=entry.spec)


def test_every_shape_was_read_back_or_the_guide_says_that_it_was_not():
    """A source names the copy that the shape was compared with; the guide lists the others."""
    sources = {name: catalog.model_entry(name).source for name in catalog.model_names()}
    unchecked = {name for name, source in sources.items() if "read back from" not in source}
    guide = (Path(__file__).parent.parent / "docs/guides/your-own-model.md").read_text("utf-8")
    listed = re.findall(r"^\| (`.*`) \|", guide.partition("| not read back |")[2], re.MULTILINE)
    assert unchecked == set(re.findall(r"`([^`]+)`", " ".join(listed)))


@EVERY_MODEL
def test_shape_is_plain_floats(name):
    values = numbers_of(catalog.model(name)).values()
    assert all(type(value) is float for value in values)


def test_there_are_enough_models():
    assert len(catalog.model_names()) >= 90
    assert list(catalog.model_names()) == sorted(catalog.model_names())


@pytest.mark.parametrize(
    ("given", "name", "longest"),
    [
        ("Qwen/Qwen3-30B-A3B", "qwen3-30b-a3b", 40_960),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507-FP8", "qwen3-30b-a3b, weights=fp8", 262_144),
        ("Qwen/Qwen3-Coder-30B-A3B-Instruct", "qwen3-30b-a3b", 262_144),
        ("deepseek-r1:14b", "qwen2.5-14b, weights=q4_k_m", 131_072),
        ("deepseek-r1:70b", "llama-3.1-70b, weights=q4_k_m", 131_072),
        ("meta-llama/Meta-Llama-3-8B-Instruct", "llama-3.1-8b", 8192),
        ("CohereForAI/aya-expanse-32b", "command-r-08-2024", 8192),
        ("Qwen/Qwen2.5-72B-Instruct-AWQ", "qwen2.5-72b, weights=awq", 32_768),
        ("01-ai/Yi-34B-200K", "yi-34b", 200_000),
        ("NousResearch/Yarn-Mistral-7b-128k", "mistral-7b", 131_072),
        ("someone/Llama-3.1-8B-Instruct-4M", "llama-3.1-8b", 4_000_000),
        ("NousResearch/Hermes-3-Llama-3.1-8B", "llama-3.1-8b", 131_072),
        ("MiniMaxAI/MiniMax-M1-80k", "minimax-text-01", 10_240_000),
        # OpenRouter's variants pick a provider; they were refused, or fine-tunes.
        ("deepseek/deepseek-r1:free", "deepseek-v3", 163_840),
        ("meta-llama/llama-3.3-70b-instruct:nitro", "llama-3.1-70b", 131_072),
        # Without the base's name, which each card tells; all but Magistral were refused.
        ("Nexusflow/Athene-V2-Chat", "qwen2.5-72b", 32_768),
        ("openchat/openchat-3.5-0106", "mistral-7b-v0.1", 8192),
        ("PrimeIntellect/INTELLECT-3", "glm-4.5-air", 131_072),
        ("internlm/Intern-S1", "qwen3-235b-a22b", 40_960),
        ("tngtech/DeepSeek-TNG-R1T2-Chimera", "deepseek-v3", 163_840),
        ("Qwen/Qwen2.5-Math-72B-Instruct", "qwen2.5-72b", 4096),
        ("moonshotai/Kimi-VL-A3B-Instruct", "moonlight-16b-a3b", 131_072),
        ("mistralai/Magistral-Small-2506", "mistral-small-24b", 40_960),
        ("XiaomiMiMo/MiMo-V2.5", "mimo-v2-flash", 1_048_576),
        ("deepseek/deepseek-chat-v3-0324", "deepseek-v3", 163_840),
        ("google/functiongemma-270m-it", "gemma-3-270m", 32_768),
    ],
)
def test_the_longest_context_is_that_of_the_name_which_was_asked_for(given, name, longest):
    """The entry's own was taken: 40,960 tokens for Qwen3-30B-A3B-Instruct-2507."""
    entry = catalog.model_entry(given)
    assert (entry.spec.label, entry.max_context) == (name, longest)


@pytest.mark.parametrize("kind", ["models", "hardware"])
def test_no_two_entries_share_a_spelling(kind):
    owners = {}
    for name in lookup.names(kind):
        file = tomllib.loads((DATA / kind / f"{name}.toml").read_text())
        aliases = [*file.get("aliases", []), *file.get("contexts", [])]
        for spelling in {name, *aliases, *(alias.rpartition("/")[2] for alias in aliases)}:
            owners.setdefault(lookup.canonical(spelling), set()).add(name)
    assert {spelling: names for spelling, names in owners.items() if len(names) > 1} == {}


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("deepseek-v3", "deepseek-v3"),
        ("DeepSeek_V3", "deepseek-v3"),
        ("deepseek-ai/DeepSeek-V3", "deepseek-v3"),
        ("deepseek-ai/DeepSeek-R1", "deepseek-v3"),
        ("somebody/DeepSeek-V3", "deepseek-v3"),
        ("meta-llama/Llama-3.1-70B", "llama-3.1-70b"),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama-3.1-70b"),
        ("qwen3-235b", "qwen3-235b-a22b"),
        ("Qwen/Qwen3-235B-A22B-Thinking-2507", "qwen3-235b-a22b"),
        ("QWEN3 8B", "qwen3-8b"),
        ("Qwen/Qwen3-8B-Base", "qwen3-8b"),
        ("grok1", "grok-1"),
        ("Llama-3.3-70B", "llama-3.1-70b"),
        ("moonshotai/Kimi-K2-Thinking", "kimi-k2.5"),
        ("moonshotai/Kimi-K2-Base", "kimi-k2"),
        ("zai-org/GLM-4.6", "glm-4.5"),
        ("zai-org/GLM-5.1", "glm-5"),
        ("zai-org/GLM-5.3", "glm-5.2"),
        ("MiniMaxAI/MiniMax-M2.7", "minimax-m2.5"),
        ("Qwen/Qwen3.6-35B-A3B", "qwen3.5-35b-a3b"),
        ("Qwen/Qwen3-VL-235B-A22B-Thinking", "qwen3-235b-a22b"),
        ("mistralai/Mistral-Small-3.2-24B-Instruct-2506", "mistral-small-24b"),
        ("mistralai/Devstral-Small-2507", "mistral-small-24b"),
        ("nvidia/Llama-3.1-Nemotron-70B-Instruct-HF", "llama-3.1-70b"),
        ("stepfun-ai/Step-3.7-Flash", "step-3.5-flash"),
        ("switch-c", "switch-c-2048"),
        ("1.3B+MoE-128", "deepspeed-moe-1.3b-128e"),
        # The point of a size counts: it was taken for opt-13b.
        ("facebook/opt-1.3b", "opt-1.3b"),
        ("facebook/opt-13b", "opt-13b"),
        ("CohereForAI/c4ai-command-r-plus", "command-r-plus"),
        ("microsoft/Phi-4-mini-instruct", "phi-4-mini"),
        ("THUDM/GLM-4-32B-0414", "glm-4-32b"),
        ("Qwen/Qwen2.5-VL-7B-Instruct", "qwen2.5-7b"),
        # So does what stands before it: it was taken for qwen2.5-7b.
        ("Qwen2-57B", "qwen2-57b-a14b"),
        ("llama3.1:8b", "llama-3.1-8b"),
        # "4b-it" was taken for four bits.
        ("google/medgemma-4b-it", "gemma-3-4b"),
        # Siblings of another shape or precision.
        ("THUDM/glm-4-9b-chat-1m-hf", "glm-4-9b-chat-1m"),
        ("mistralai/Ministral-3-14B-Reasoning-2512", "ministral-3-14b-base"),
        ("deepseek-ai/DeepSeek-V4-Pro-Base", "deepseek-v4-pro-base"),
        ("CohereForAI/c4ai-command-r-v01", "command-r"),
        ("CohereForAI/c4ai-command-r-08-2024", "command-r-08-2024"),
        # Dates that tell generations apart.
        ("ministral-8b-2512", "ministral-3-8b"),
        ("mistralai/Ministral-8B-Instruct-2410", "ministral-8b"),
        ("mistral-large-2512", "mistral-large-3"),
        ("devstral-small-2512", "devstral-small-2-24b"),
        # Fine-tunes whose names hold that of their base.
        ("NousResearch/Hermes-3-Llama-3.1-405B", "llama-3.1-405b"),
        ("NousResearch/Nous-Hermes-2-Mixtral-8x7B-DPO", "mixtral-8x7b"),
        ("cognitivecomputations/dolphin-2.9-llama3-8b", "llama-3.1-8b"),
        ("huihui-ai/Qwen2.5-72B-Instruct-abliterated", "qwen2.5-72b"),
    ],
)
def test_model_is_found_by(given, name):
    assert catalog.model_entry(given).name == name


@pytest.mark.parametrize(
    ("name", "size"),
    [
        # Softmax layers without a window, times keys and values of all KV heads, of 2 B; latents
        # are one vector of 512 + 64; index keys of FP8 have a scale of 4 B.
        ("gpt-j-6b", 28 * 2 * 16 * 256 * 2),
        ("llama-2-13b", 40 * 2 * 40 * 128 * 2),
        ("llama-3.3-nemotron-super-49b", 49 * 2 * 8 * 128 * 2),
        ("glm-4.7-flash", 47 * 576 * 2),
        ("glm-5.2", 78 * 576 * 2 + 21 * 132),
        ("minimax-m3", 60 * 2 * 4 * 128 * 2 + 57 * 128 * 2),
        ("kimi-k3", 24 * 576 * 2),
        ("mistral-large-3", 61 * 576 * 2),
        ("longcat-flash", 56 * 576 * 2),
        ("step-3.5-flash", 12 * 2 * 8 * 128 * 2),
        ("mimo-v2-flash", 9 * 4 * (192 + 128) * 2),
        ("gemma-4-31b", 10 * 2 * 4 * 512 * 2),
        ("gemma-4-26b-a4b", 5 * 2 * 2 * 512 * 2),
        ("qwen3.5-27b", 16 * 2 * 4 * 256 * 2),
        ("qwen3.5-35b-a3b", 10 * 2 * 2 * 256 * 2),
        ("qwen3.5-122b-a10b", 12 * 2 * 2 * 256 * 2),
        ("nemotron-3-nano-30b-a3b", 6 * 2 * 2 * 128 * 2),
        ("nemotron-3-super-120b-a12b", 8 * 2 * 2 * 128 * 2),
        ("nemotron-3-ultra-550b-a55b", 12 * 2 * 2 * 128 * 2),
        ("nemotron-h-56b", 10 * 2 * 8 * 128 * 2),
        ("seed-oss-36b", 64 * 2 * 8 * 128 * 2),
        ("ernie-4.5-21b-a3b", 28 * 2 * 4 * 128 * 2),
        ("kimi-linear-48b-a3b", 7 * (512 + 64) * 2),
        ("granite-4.0-h-small", 4 * 2 * 8 * 128 * 2),
        ("lfm2.5-8b-a1b", 6 * 2 * 8 * 64 * 2),
        ("jamba-1.5-mini", 4 * 2 * 8 * 128 * 2),
        ("glm-4-32b", 61 * 2 * 2 * 128 * 2),
        ("glm-4-9b-chat-1m", 40 * 2 * 4 * 128 * 2),
        ("command-r", 40 * 2 * 64 * 128 * 2),
        ("command-a", 16 * 2 * 8 * 128 * 2),
        ("moonlight-16b-a3b", 27 * (512 + 64) * 2),
        ("falcon-7b", 32 * 2 * 64 * 2),
        ("laguna-xs.2", 10 * 2 * 8 * 128 * 2),
        ("olmo-3-32b", 16 * 2 * 8 * 128 * 2),
    ],
)
def test_cache_of_a_further_token_by_hand(name, size):
    spec = catalog.model(name)

    def cache(context):
        work = precision.workload_of(spec, context=context)
        return float(kv_bytes_per_sequence(spec, Partition(), work, PHYSICAL))

    # Between two contexts beyond every window but those of MiniMax-M3, which are its whole context.
    assert (cache(9000.0) - cache(8000.0)) / 1000 == pytest.approx(size, rel=1e-4)


@pytest.mark.parametrize(
    ("given", "name", "weights", "attention", "stored", "multiply"),
    [
        ("Qwen/Qwen3-32B-FP8", "qwen3-32b", "fp8", "fp8", 1.0, None),
        ("RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic", "llama-3.1-70b", "fp8", "fp8", 1.0, None),
        ("amd/Llama-3.1-405B-Instruct-FP8-KV", "llama-3.1-405b", "fp8", "fp8", 1.0, None),
        (
            "neuralmagic/Llama-3.1-8B-quantized.w8a8",
            "llama-3.1-8b",
            "fp8",
            "fp8",
            1,
            None,
        ),
        # A 16-bit scale for 128 integers.
        ("Qwen/Qwen3-32B-AWQ", "qwen3-32b", "fp4", "fp4", 0.515625, "bf16"),
        ("Intel/Qwen3-32B-int4-AutoRound", "qwen3-32b", "fp4", "fp4", 0.515625, "bf16"),
        ("TheBloke/Llama-2-13B-chat-GPTQ", "llama-2-13b", "fp4", "fp4", 0.515625, "bf16"),
        ("unsloth/Qwen3-14B-unsloth-bnb-4bit", "qwen3-14b", "fp4", "fp4", 0.515625, "bf16"),
        ("x/gemma-3-27b-it-qat-int4", "gemma-3-27b", "fp4", "fp4", 0.515625, "bf16"),
        ("Qwen/Qwen2.5-72B-Instruct-GPTQ-Int8", "qwen2.5-72b", "fp8", "fp8", 1.0, "bf16"),
        ("x/Llama-3.1-8B-quantized.w8a16", "llama-3.1-8b", "fp8", "fp8", 1.0, "bf16"),
        ("amd/DeepSeek-R1-0528-MXFP4-ASQ", "deepseek-v3", "fp4", "bf16", 0.53125, None),
        # Experts of 4 bits leave attention in 16.
        ("nvidia/DeepSeek-R1-0528-FP4-v2", "deepseek-v3", "fp4", "bf16", 0.5625, None),
        ("amd/DeepSeek-R1-MXFP4", "deepseek-v3", "fp4", "bf16", 0.53125, None),
        ("nvidia/Kimi-K2.7-Code-NVFP4", "kimi-k2.5", "fp4", "bf16", 0.5625, None),
        ("unsloth/gpt-oss-20b-BF16", "gpt-oss-20b", "bf16", "bf16", 2.0, None),
        ("someone/Hermes-2-Pro-Llama-3-8B-AWQ", "llama-3.1-8b", "fp4", "fp4", 0.515625, "bf16"),
        # Types of GGUF files are those of all matrices.
        ("unsloth/Qwen3-8B-GGUF:Q4_K_M", "qwen3-8b", "fp4", "fp4", 4.8944 / 8, "bf16"),
        ("Qwen3-30B-A3B-UD-Q4_K_XL.gguf", "qwen3-30b-a3b", "fp4", "fp4", 4.8944 / 8, "bf16"),
        ("x/Llama-3.1-8B-Instruct.Q8_0", "llama-3.1-8b", "fp8", "fp8", 8.5008 / 8, "bf16"),
        ("unsloth/gpt-oss-20b-GGUF:F16", "gpt-oss-20b", "bf16", "bf16", 2.0, "bf16"),
        ("x/Qwen3-30B-A3B-GGUF:MXFP4_MOE", "qwen3-30b-a3b", "fp4", "bf16", 0.53125, None),
        # A tag of Ollama's that tells none was counted in the model's own dtype.
        ("qwen3:8b", "qwen3-8b", "fp4", "fp4", 4.8944 / 8, "bf16"),
        ("llama3.3:latest", "llama-3.1-70b", "fp4", "fp4", 4.8944 / 8, "bf16"),
        ("ollama/llama3.2:1b", "llama-3.2-1b", "fp8", "fp8", 8.5008 / 8, "bf16"),
        ("gemma3:27b-it-qat", "gemma-3-27b", "fp4", "fp4", 4.5 / 8, "bf16"),
        ("llama3.1:8b-instruct-fp16", "llama-3.1-8b", "bf16", "bf16", 2.0, "bf16"),
        ("gpt-oss:20b", "gpt-oss-20b", "fp4", "bf16", 0.53125, None),
        # So are those of MLX, with a scale and a bias of 16 bits each for 64 weights, or for 32.
        ("mlx-community/Qwen3-30B-A3B-4bit", "qwen3-30b-a3b", "fp4", "fp4", 0.5625, "bf16"),
        ("lmstudio-community/Qwen3-8B-MLX-8bit", "qwen3-8b", "fp8", "fp8", 1.0625, "bf16"),
        ("mlx-community/Qwen3-8B-6bit-gs32", "qwen3-8b", "fp8", "fp8", 0.875, "bf16"),
        ("x/Qwen3-30B-A3B-mxfp4-mlx", "qwen3-30b-a3b", "fp4", "fp4", 0.53125, "bf16"),
        (
            "HF://mlc-ai/Llama-3-8B-Instruct-q4f16_1-MLC",
            "llama-3.1-8b",
            "fp4",
            "fp4",
            0.5625,
            "bf16",
        ),
        # The widest format that a name tells is of activations or of the cache.
        ("amd/gpt-oss-20b-w-mxfp4-a-fp8", "gpt-oss-20b", "fp4", "bf16", 0.53125, "fp8"),
        ("novita/Deepseek-R1-0528-W4AFP8", "deepseek-v3", "fp4", "fp8", 0.515625, "fp8"),
        ("x/Qwen3-32B-NVFP4-KV-FP8", "qwen3-32b", "fp4", "fp4", 0.5625, None),
        ("cpatonn/Qwen3-32B-AWQ-8bit", "qwen3-32b", "fp8", "fp8", 1.0, "bf16"),
        # It was taken for a fine-tune in BF16.
        ("RedHatAI/Llama-3.1-8B-NVFP4A16", "llama-3.1-8b", "fp4", "fp4", 0.5625, "bf16"),
        # Published so already.
        ("ggml-org/gpt-oss-20b-GGUF:mxfp4", "gpt-oss-20b", "fp4", "bf16", 0.53125, None),
        ("deepseek-ai/DeepSeek-V3-FP8", "deepseek-v3", "fp8", "fp8", 1.0, None),
        ("mistralai/Ministral-3-8B-Base-2512", "ministral-3-8b-base", "bf16", "bf16", 2.0, None),
        ("x/DeepSeek-V4-Flash-Base", "deepseek-v4-flash-base", "fp8", "fp8", 1.0, None),
    ],
)
def test_a_name_that_tells_the_format_of_its_weights(
    given, name, weights, attention, stored, multiply
):
    entry, plain = catalog.model_entry(given), catalog.model_entry(name)
    assert entry.name == name
    assert (entry.weight_dtype, entry.attn_weight_dtype) == (weights, attention)
    own = entry.spec.precision
    assert (own.bytes_ffn_weight, entry.multiply_dtype) == (stored, multiply)
    plain_bytes = {"bf16": 2.0, "fp8": 1.0}
    assert own.bytes_attn_weight == (stored if attention == weights else plain_bytes[attention])
    asks = "fp8" if "K2.7-Code-NVFP4" in given else plain.kv_dtype
    assert entry.kv_dtype == asks
    bare = (dataclasses.replace(one.spec, precision=None, label="") for one in (entry, plain))
    assert len(set(map(repr, bare))) == 1
    is_published = (weights, multiply) == (plain.weight_dtype, plain.multiply_dtype)
    assert entry.spec.label.startswith(name + ("" if is_published else ", weights="))


@pytest.mark.parametrize(
    ("given", "kv"),
    [
        # hf_quant_config.json of each: kv_cache_quant_algo, which engines follow.
        ("nvidia/Qwen3-235B-A22B-NVFP4", "fp8"),
        ("https://huggingface.co/nvidia/Kimi-K2.6-NVFP4", "fp8"),
        ("nvidia/Llama-3.1-70B-Instruct-FP8", "fp8"),
        ("Qwen/Qwen3-32B-FP8-Static-PerTensor", "fp8"),
        ("nvidia/Llama-3.1-405B-Instruct-FP8", "bf16"),  # null
        ("nvidia/MiniMax-M3-NVFP4", "bf16"),  # null
        ("RedHatAI/Qwen3-235B-A22B-NVFP4", "bf16"),  # of another publisher
        ("Qwen/Qwen3-32B-FP8", "bf16"),
    ],
)
def test_the_cache_that_a_checkpoint_asks_for(given, kv):
    assert catalog.model_entry(given).kv_dtype == kv


def test_checkpoints_are_as_their_files_say():
    """By hand: of V3.1's attention o_proj alone is in NVFP4, 117.4 of 187.1 M weights a layer."""
    for name, told in table("catalog/quantisation.toml")["checkpoints"].items():
        entry = catalog.model_entry(name)
        assert {field: getattr(entry, field) for field in told} == told, name
    latent = catalog.model_entry("nvidia/DeepSeek-V3.1-NVFP4").spec.precision
    whole = 7168 * 1536 + 1536 * 24576 + 7168 * 576 + 512 * 32768
    mean = (0.5625 * 7168 * 16384 + 2.0 * whole) / (7168 * 16384 + whole)
    assert latent.bytes_attn_weight == pytest.approx(mean, rel=1e-4)
    # "ignore" of its config.json: *self_attn*. It was read in 4 bits, 21 % too fast on one B200.
    assert catalog.model_entry("nvidia/Gemma-4-31B-IT-NVFP4").spec.precision.bytes_attn_weight == 2
    # Weights alone: W4A16_NVFP4 of its quantized_layers.
    assert catalog.model_entry("nvidia/Qwen3.6-35B-A3B-NVFP4").multiply_dtype == "bf16"
    # Experts stay in NVFP4, attention in FP8 as in the model itself.
    flash = catalog.model_entry("nvidia/DeepSeek-V4-Flash-NVFP4")
    assert (flash.attn_weight_dtype, flash.spec.precision.bytes_ffn_weight) == ("fp8", 0.5625)


@pytest.mark.parametrize(
    ("tag", "size"),
    [
        ("llama3.3:latest", 43e9), ("llama3.2:3b", 2.0e9), ("llama3.2:1b", 1.3e9),
        ("llama3:8b", 4.7e9), ("qwq:32b", 20e9), ("deepseek-r1:671b", 404e9),
        ("phi4:14b", 9.1e9), ("codellama:7b", 3.8e9), ("llama2:7b", 3.8e9),
        ("granite3.3:8b", 4.9e9), ("mixtral:8x7b", 26e9), ("smollm2:135m", 271e6),
    ],
)  # fmt: skip
def test_tags_of_ollama_are_as_large_as_its_library_says(tag, size):
    """README of https://github.com/ollama/ollama, and https://ollama.com/library."""
    entry = catalog.model_entry(tag)
    held = float(params.total_params(entry.spec)) * entry.spec.precision.bytes_ffn_weight
    assert held == pytest.approx(size, rel=0.04)


def test_the_address_of_a_config_names_its_model():
    """Nothing is fetched; it was taken for a path."""
    address = "https://huggingface.co/%s/resolve/main/config.json"
    assert catalog.model_entry(address % "Qwen/Qwen3-8B").name == "qwen3-8b"
    with pytest.raises(ValueError, match=r"unknown model .*give a folder with a config"):
        catalog.model_entry(address % "x/y")


def test_formats_of_weights_are_told_of_models_alone():
    with pytest.raises(ValueError, match="unknown accelerator 'h100-fp8'"):
        catalog.hardware("h100-fp8")


@pytest.mark.parametrize(
    "given",
    [
        # Parts of a model, models made of it, and formats that are not read.
        "RedHatAI/Qwen3-8B-speculator.eagle3",
        "nvidia/gpt-oss-120b-Eagle3",
        "cerebras/Qwen3-Coder-480B-A35B-REAP-246B-A35B",
        "neuralmagic/Sparse-Llama-3.1-8B-2of4",
        "LoneStriker/Mixtral-8x7B-Instruct-v0.1-4.0bpw-h6-exl2",
        "intfloat/e5-mistral-7b-instruct",
        "ibm-ai-platform/llama3-8b-accelerator",
        "featherless-ai/QRWKV-QwQ-32B",
        "TheBloke/Llama-2-13B-chat-GGML",
        "pytorch/Qwen3-4B-8da4w",
        "mlx-community/Qwen2.5-3bit",
        "mlx-community/gpt-oss-20b-MXFP4-Q8",
        "pytorch/Qwen3-8B-float8dq",
        "x/Qwen3-32B-SINQ",
        # Its "4m" of "phi4mini" was taken for a size, and layers of state space for attention.
        "microsoft/Phi-4-mini-flash-reasoning",
        "microsoft/Phi-3-medium-4k-instruct",
        # Names of two readings, and of a generation that is not in the catalogue.
        "gemma-31b",
        "llama-3-3b",
        "mistral-small-2603",
    ],
)
def test_a_name_that_only_holds_that_of_a_model_is_refused(given):
    with pytest.raises(ValueError, match=r"unknown model .*did you mean"):
        catalog.model_entry(given)


@pytest.mark.parametrize(
    ("given", "some"),
    [
        ("llama-4", "llama-4-maverick or llama-4-scout"),
        ("meta-llama/Llama 4", "llama-4-maverick or"),
        ("gemma-3", "gemma-3-12b or gemma-3-1b"),
        ("kimi", "kimi-k2 or"),
    ],
)
def test_the_first_words_of_names_are_met_by_these(given, some):
    """Of a series the spellings nearest in length came: llama-2-7b for llama-4."""
    with pytest.raises(ValueError, match=rf"did you mean {some}"):
        catalog.model(given)


@pytest.mark.parametrize("given", ["qwen3-236b", "Qwen/Qwen3-236B-A22B"])
def test_unknown_model_names_the_nearest_and_the_way_out(given):
    with pytest.raises(ValueError, match=r"did you mean .*qwen3-235b-a22b") as caught:
        catalog.model(given)
    assert "config.json" in str(caught.value)
    assert "docs/guides/your-own-model.md" in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        "vllm serve Qwen/Qwen3-32B -tp 4",
        "ollama run qwen3:32b",
        "qwen3-32b --tp 8",
        "llama-server -hf unsloth/Qwen3-32B-GGUF",
    ],
)
def test_a_command_is_no_name(given):
    """They were fine-tunes of what they serve, without its flags."""
    with pytest.raises(ValueError, match="is a command line, which `qsjax explain -- COMMAND`"):
        catalog.model(given)


def test_unknown_model_without_a_neighbour_lists_all():
    assert not difflib.get_close_matches("xyzzy", catalog.model_names())
    with pytest.raises(ValueError, match=r"`qsjax models` lists the \d+ that are known"):
        catalog.model("xyzzy")


def test_an_accelerator_is_told_from_a_model():
    with pytest.raises(ValueError, match="'h100' names an accelerator"):
        catalog.model("h100")
    with pytest.raises(ValueError, match="'grok-1' names a model"):
        catalog.hardware("grok-1")


@pytest.mark.parametrize("name", ["qwen3-8b:kv=fp8", "qwen3-8b:weights=fp8", "mixtral-8x7b:q=5"])
def test_a_change_behind_a_name_is_no_part_of_it(name):
    """`kv=fp8` has the letters of a checkpoint called FP8-KV, whose weights have 8 bits."""
    plain, _, change = name.partition(":")
    with pytest.raises(ValueError, match=f"{plain} is known, and {change} behind it is a change"):
        catalog.model(name)


@pytest.mark.parametrize(
    ("behind", "told"),
    [
        (
            "h200",
            "an accelerator behind @ is what `qsjax compare` takes; elsewhere .* --hardware h200",
        ),
        ("b200:hbm_bw=x2", "an accelerator behind @ .* --hardware b200"),
        ("h201", "'h201' behind @ is neither a revision"),
        ("q4_k_m", "'q4_k_m' behind @ is neither a revision"),
    ],
)
def test_what_stands_behind_an_at_is_a_revision_or_told(behind, told):
    """`explore qwen3-8b@h200` answered for the default accelerator, an H100."""
    with pytest.raises(ValueError, match=f"qwen3-8b is known, (and|but) {told}"):
        catalog.model(f"qwen3-8b@{behind}")
    for revision in ("main", "b968826d9c46dd6066d109eabc6255188de91218", "refs/pr/3", "v1.2"):
        assert catalog.model_entry(f"Qwen/Qwen3-8B@{revision}").name == "qwen3-8b"


@pytest.mark.parametrize("name", ["qwen3-8b-h200", "Qwen/Qwen3-8B on B200", "qwen3-8b-tp4"])
def test_accelerators_and_degrees_in_a_name_are_no_fine_tune(name):
    """They were dropped, and the default accelerator was taken."""
    with pytest.raises(ValueError, match="did you mean qwen3-8b"):
        catalog.model(name)


def test_switch_c_is_one_stack_of_experts():
    spec = catalog.model("switch-c-2048")
    assert (spec.layers, spec.dense_layers, spec.ffn_matrices) == (30, 0, 2)
    assert float(params.pool_params(spec)) == 2048 * 2 * 2080 * 6144 * 30


def test_published_precisions_are_kept():
    entry = catalog.model_entry("gpt-oss-120b")
    assert (entry.weight_dtype, entry.attn_weight_dtype, entry.kv_dtype) == ("fp4", "bf16", "bf16")
    assert catalog.model_entry("deepseek-v3").attn_weight_dtype == "fp8"


def test_extending_changes_only_what_is_given():
    assert numbers_of(catalog.model("kimi-k2.5")) == numbers_of(catalog.model("kimi-k2"))
    assert catalog.model_entry("kimi-k2.5").weight_dtype == "fp4"
    assert catalog.workload("kimi-k2.5").ffn_dtype == "bf16"  # integers, dequantised
    assert catalog.workload("gpt-oss-20b").ffn_dtype == "fp4"


def test_importing_the_catalogue_makes_no_array():
    assert not any(isinstance(value, jax.Array) for value in vars(catalog).values())
    leaves = jax.tree.leaves(catalog.model("deepseek-v3"))
    assert len(leaves) == len(facts_of(ModelSpec)) + len(facts_of(Precision))
    assert not any(isinstance(leaf, jax.Array) for leaf in leaves)
