"""Writes the page of all fields from their facts: `python docs/fields.py` writes docs/fields.md."""

import dataclasses
from pathlib import Path

from qsjax.catalog.toml_hardware import keys_of
from qsjax.records.fields import Facts, choices_of, facts_of
from qsjax.records.specs import Convention, HardwareSpec, ModelSpec, Partition, Precision, Workload

PAGE = Path(__file__).parent / "fields.md"
RECORDS = (ModelSpec, Precision, HardwareSpec, Partition, Workload, Convention)
HEAD = """# Fields of the records

Written by `python docs/fields.py` from the metadata of the fields. SI units; fields without a
default must be given. `qsjax.Problem(axes={name: values})` takes any number as an axis.
"""


def _default(field: dataclasses.Field) -> str:
    if field.default is dataclasses.MISSING:
        return ""
    return f"{field.default:g}" if isinstance(field.default, float) else f"`{field.default}`"


def _row(record: type, field: dataclasses.Field, facts: Facts) -> str:
    cells = [f"`{field.name}`", facts.meaning, facts.unit, str(facts.rule), _default(field)]
    if record is HardwareSpec:
        cells.append(", ".join(f"`{key}`" for key in keys_of(field.name)))
    return f"| {' | '.join(cells)} |"


def table(record: type) -> str:
    """The numbers of a record, then its closed choices and the sources of its defaults."""
    heads = ["field", "what it is", "unit", "allowed", "default"]
    heads += ["keys in a file"] if record is HardwareSpec else []
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    fields = {field.name: field for field in dataclasses.fields(record)}
    lines += [_row(record, fields[name], facts) for name, facts in facts_of(record).items()]
    chosen = [
        f"- `{name}`: {', '.join(f'`{one}`' for one in allowed)}; default {_default(fields[name])}."
        for name, allowed in choices_of(record).items()
    ]
    sourced = {name: facts.source for name, facts in facts_of(record).items() if facts.source}
    sources = {name: source.replace("*", r"\*") for name, source in sourced.items()}
    chosen += [f"- Default of `{name}`: {source}." for name, source in sources.items()]
    return "\n".join([f"## {record.__name__}\n", *lines, *(["", *chosen] if chosen else [])])


def page() -> str:
    """The whole page."""
    return "\n\n".join([HEAD.rstrip(), *(table(record) for record in RECORDS)]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
