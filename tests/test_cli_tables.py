"""Tables at every width of the terminal: text folds, rules go, numbers stay whole."""

import pytest
from prompt import qsjax
from rich.table import Table

from qsjax.cli import WIDTH, printing

NUMBERS = ("26.45", "1,815.0", "110.193", "+2.3 %", "429.7 *")
WHY = "compute +189%, HBM weights -64%"


def table():
    found = Table(title="a title", title_justify="left")
    found.add_column("series of designs")
    for name in NUMBERS:
        found.add_column(f"tok/s of {name[:2]}", justify="right")
    found.add_column("why", justify="right")
    found.add_row("h200-sxm, dense q=5", *NUMBERS, WHY)
    found.add_section()
    found.add_row("moe", *NUMBERS, "")
    return found


def printed(capsys, width):
    printing.show(table(), width)
    return capsys.readouterr().out


@pytest.mark.parametrize("width", [20, 60, 80, 100, 120, 160])
def test_no_number_is_cut_at_any_width(capsys, width):
    text = printed(capsys, width)
    assert "…" not in text
    for number in NUMBERS:
        assert text.count(number) == 2
    for word in (*WHY.split(), "h200-sxm,", "dense", "series"):
        assert word in text


def test_a_wide_terminal_shows_rules_and_no_folds(capsys):
    text = printed(capsys, 160)
    assert WHY in text
    assert "h200-sxm, dense q=5" in text
    assert "┃" in text


@pytest.mark.parametrize("width", [80, 100, 120])
def test_lines_keep_to_the_terminal_where_that_is_possible(capsys, width):
    assert max(len(line) for line in printed(capsys, width).splitlines()) <= width


def test_rules_go_before_anything_is_wider_than_the_terminal(capsys):
    assert "┃" not in printed(capsys, 60)


def test_what_binds_keeps_to_100_columns():
    said = qsjax(*"binding deepseek-v3 --gpus 16 --hardware h200-sxm".split(), code=0).stdout
    table = said.split("at the same tokens/s/user\n")[1].split("\ndeepseek-v3 ")[0]
    assert max(map(len, table.splitlines())) <= WIDTH


@pytest.mark.parametrize(
    "line",
    [
        "llama-3.1-70b llama-3.1-70b:kv=fp8 --hardware a100-sxm",
        "deepseek-v3@b200-sxm deepseek-v3@b200-sxm:island_size=72 --gpus 72 --min-user-rate 50",
        "llama-3.1-70b --hardware h100-sxm,h200-sxm,b200-sxm --isl 4k --osl 1k",
        "llama-3.1-70b llama-3.1-70b@h100-sxm:hbm_bytes=x2,hbm_bw=x2 --context 32k",
        "deepseek-v3@b200-sxm deepseek-v3@mi355x --gpus 16 --convention paper",
        "gpt-oss-120b qwen3-235b@mi355x deepseek-v3@gb200-nvl72 --context 8k",
    ],
)
def test_comparisons_keep_to_100_columns(line):
    """They took 101 to 133, of names that repeat the first one's."""
    flags = [] if "--gpus" in line else ["--gpus", "8"]
    said = qsjax("compare", *line.split(), *flags, code=0).stdout
    table = said.split("The best designs")[1].splitlines()[1:]
    assert max(len(text) for text in table if "  " in text) == WIDTH
