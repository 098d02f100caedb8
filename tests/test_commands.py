"""The corpus of public command lines: nearly all are read, and none is read wrong."""

from collections import Counter

from benchmarks import commands


def test_public_command_lines_are_read_and_none_wrong():
    every = list(commands.outcomes())
    assert not [(one.command["line"], one.wrong) for one in every if one.wrong]
    refused = [one for one in every if one.refusal]
    assert len(every) >= 300
    assert len(refused) <= 0.03 * len(every)
    # What is refused is a settings file that is not here, or another engine.
    for one in refused:
        assert "cannot be read" in one.refusal or "is not an engine" in one.refusal


def test_the_corpus_names_its_sources_and_says_what_its_lines_mean():
    every = commands.commands()
    repositories = Counter(one["from"].split()[0] for one in every)
    assert set(repositories) >= {
        *("vllm-project/vllm", "vllm-project/recipes", "sgl-project/sglang"),
        *("sgl-project/sgl-cookbook", "SemiAnalysisAI/InferenceX", "NVIDIA/TensorRT-LLM"),
    }
    assert len({one["line"] for one in every}) == len(every)
    # Not only lines that say nothing: degrees, precisions and limits of memory among them.
    said = Counter(name for one in every for name in one.get("expect", {}))
    for name in ("tp", "dp", "ep", "pp", "context", "batch", "usable_fraction", "bytes_kv"):
        assert said[name] >= 3, name


def test_the_share_is_printed(capsys):
    commands.main()
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith("0 read wrong")
    assert float(last.split(": ")[1].split()[0]) >= 97.0
