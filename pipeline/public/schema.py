"""The public records as a JSON Schema and as tables: ``python -m pipeline.public.schema DOCS``.

Writes ``messages.schema.json`` and the generated part of ``messages.md`` in the folder ``DOCS``.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from pipeline.public import records

DRAFT = "https://json-schema.org/draft/2020-12/schema"
BEGIN, END = "<!-- generated: the records -->", "<!-- end of what is generated -->"

_INNER = (records.Window, records.Streams, records.Model, records.HeldBack)

Schema = Mapping[str, Any]


def json_schema() -> dict[str, Any]:
    """The schema of every record, with the topic or the direction that it travels in."""
    sent = [topic.record for topic in records.TOPICS]
    _, components = msgspec.json.schema_components(
        [*sent, records.Request, *records.ANSWERS], ref_template="#/$defs/{name}"
    )
    return {
        "$schema": DRAFT,
        "title": "Public messages of two-stream",
        "x-topics": {topic.pattern: _ref(topic.record) for topic in records.TOPICS},
        "x-request": _ref(records.Request),
        "x-answers": [_ref(record) for record in records.ANSWERS],
        "$defs": {name: components[name] for name in sorted(components)},
    }


def schema_text() -> str:
    """What ``docs/messages.schema.json`` holds."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def schema_of(record: type[Any]) -> dict[str, Any]:
    """A schema that validates one kind of record."""
    whole = json_schema()
    return {"$schema": DRAFT, **_ref(record), "$defs": whole["$defs"]}


def markdown() -> str:
    """A section for each record: its topic, what it means, and a table of its fields."""
    definitions = json_schema()["$defs"]
    parts: list[str] = []
    for topic in records.TOPICS:
        parts += _section(topic.record, f"`{topic.pattern}`", definitions)
    parts += _section(records.Request, "to the ROUTER socket", definitions)
    for answer in records.ANSWERS:
        parts += _section(answer, "from the ROUTER socket", definitions)
    for inner in _INNER:
        parts += _section(inner, "inside other records", definitions)
    return "\n".join(parts)


def _ref(record: type[Any]) -> dict[str, str]:
    return {"$ref": f"#/$defs/{record.__name__}"}


def _section(record: type[Any], where: str, definitions: Schema) -> Iterator[str]:
    schema = definitions[record.__name__]
    yield f"### {record.__name__}: {where}\n"
    yield f"{schema['description']}\n"
    yield "| field | type | unit | meaning |"
    yield "|---|---|---|---|"
    required = schema.get("required", [])
    for name, field in schema["properties"].items():
        field = _resolved(field, definitions)
        unit = field.get("x-unit", "")
        kind = _type(field)
        optional = "" if name in required or "default" in field else "; may be absent"
        yield f"| `{name}` | {kind} | {unit} | {field.get('description', '')}{optional} |"
    yield ""


def _resolved(field: Schema, definitions: Schema) -> Schema:
    """A field that is another record says what that record says."""
    if "$ref" not in field:
        return field
    name = field["$ref"].rpartition("/")[2]
    text = definitions[name]["description"].rstrip(".")
    return {**field, "description": text[0].lower() + text[1:]}


def _type(field: Schema) -> str:
    """A field's type in a few words."""
    if "anyOf" in field:
        return " or ".join(_type(option) for option in field["anyOf"])
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        inner = name in {record.__name__ for record in _INNER}
        return f"[{name}](#{name.lower()}-inside-other-records)" if inner else name
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    kind = field.get("type", "any")
    if kind == "array":
        if "prefixItems" in field:
            return f"[{', '.join(_type(item) for item in field['prefixItems'])}]"
        return f"list of {_type(field['items'])}"
    if kind == "object" and "additionalProperties" in field:
        return f"object of {_type(field['additionalProperties'])}"
    return str(kind)


def put_into(page: str) -> str:
    """``page`` with what stands between the markers made anew."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{markdown()}\n{END}{tail}"


def main(docs: Path) -> None:
    (docs / "messages.schema.json").write_text(schema_text(), encoding="utf-8")
    page = docs / "messages.md"
    page.write_text(put_into(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
