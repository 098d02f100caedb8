"""The help of a verb: options under a heading each kind, and like ones on one line."""

from collections.abc import Iterator
from itertools import groupby

import click

from qsjax.records.specs import DEGREES

_FIRST = 24  # characters of the column of names
COMMON = ("--format", "--out", "--quiet", "--verbose", "--help")
# Heading -> the arguments under it; all others are the verb's own.
HEADINGS = {
    "What is served": (
        *("hardware", "engine", "gpus", "context", "twins", "convention", "weights", "kv"),
        *("isl", "osl", "prefix_hit_rate"),
    ),
    "Designs tried": (*DEGREES, "replicas", "kv_mode", "batch"),
    "Limits, prices and intervals": (
        *("max_tpot", "min_user_rate", "max_gpus", "min_headroom", "max_usd", "max_joules"),
        *(f"max_{name}" for name in DEGREES),
        *("tp_in_island", "usd_per_hour", "watts", "utilisation", "pue", "level"),
    ),
}
_HEADING_OF = {name: heading for heading, names in HEADINGS.items() for name in names}


class Verb(click.Command):
    """A command whose help groups its options and says those of every verb in one line."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse an option that is empty, or given twice, of which click takes the last."""
        given, _, order = self.make_parser(ctx).parse_args([*args])
        options = [one for one in order if isinstance(one, click.Option)]
        for one in (one for one in options if one.secondary_opts or not one.is_flag):
            name, value = "/".join([one.opts[0], *one.secondary_opts]), given[one.name]
            values = value if one.multiple else [value] * order.count(one)
            if "" in values:
                raise click.UsageError(f"{name} is empty; give a value, or leave it out", ctx)
            keys = [f" {x.partition('=')[0]}" if one.multiple else "" for x in values]
            if twice := [key for key in keys if keys.count(key) > 1]:
                lists = "" if one.multiple else ", lists with commas"
                told = f"{name}{twice[0]} is given twice; give it once{lists}"
                raise click.UsageError(told, ctx)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One row for neighbours of one text, under the headings of `HEADINGS`."""
        shown = [one for one in self.get_params(ctx) if isinstance(one, click.Option)]
        common = [one for one in shown if one.opts[-1] in COMMON]
        own = [one for one in shown if one not in common]
        formatter.write_paragraph()
        for heading in ("Options", *HEADINGS):
            part = [one for one in own if _HEADING_OF.get(one.name or "", "Options") == heading]
            if part:
                formatter.write_heading(heading)
                with formatter.indentation():
                    rows = list(_rows(part, ctx))
                    formatter.write_dl([(f"{a:<{_FIRST}}", b) for a, b in rows], _FIRST + 1)
        also = ", ".join("/".join(one.opts) for one in common)
        formatter.write(f"Of every verb (see `qsjax --help`): {also}\n")


def _rows(options: list[click.Option], ctx: click.Context) -> Iterator[tuple[str, str]]:
    """Names and text of options; neighbours that say the same are one row."""
    records = [one.get_help_record(ctx) or ("", "") for one in options]
    for text, same in groupby(records, key=lambda record: record[1]):
        *others, last = (names for names, _ in same)
        names = [*(other.partition(" ")[0] for other in others), last]
        if len(names) > 2:  # the text names those between
            names = [f"{names[0]} ... {last}"]
        row = ", ".join(names)
        yield (row if len(row) <= _FIRST or not others else row.rpartition(" ")[0]), text
