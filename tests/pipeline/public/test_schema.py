"""The records, their schema and their docs agree; the schema refuses what isn't a record."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from pipeline.public import records
from pipeline.public.records import to_json
from pipeline.public.schema import json_schema, put_into, schema_of, schema_text
from pipeline.public.wording import Wording
from pipeline.transport.messages import CameraStatus, EvidenceMade, Pace, Pacing, StepScores
from testbed.samples import ONE_OF_EACH, event

DOCS = Path(__file__).resolve().parents[3] / "docs"
WORDING = Wording(
    log="9f",
    wall_ns=lambda ns: ns,
    media_timed=False,
)
ERROR = records.Error(log="9f", error="no such request")


def one_of_each() -> list[msgspec.Struct]:
    """A record of every kind, made from messages as publish makes them."""
    status = next(message for message in ONE_OF_EACH if isinstance(message, CameraStatus))
    scores = next(message for message in ONE_OF_EACH if isinstance(message, StepScores))
    pacing = Pacing(level=1, pace=Pace(spatial_every=2), reason="late", at_ns=5)
    made = next(message for message in ONE_OF_EACH if isinstance(message, EvidenceMade))
    evidence = records.Evidence(number=1, log="9f", **msgspec.structs.asdict(made))
    camera = WORDING.camera_status(status)
    log, governor = WORDING.log_status(None, 5), WORDING.governor_status(pacing)
    return [
        event(1),
        camera,
        log,
        WORDING.log_status("disk full", 5),
        governor,
        WORDING.scores(scores, {"total": 1.5}),
        records.Request("replay", since=4),
        records.Snapshot(
            log="9f", seq=1, cameras={"door": camera}, active=[event(1)], event_log=log,
            governor=governor,
        ),
        records.Replay(log="9f", seq=1, events=[event(1)]),
        evidence,
        records.EvidenceReplay(log="9f", number=1, evidence=[evidence]),
        ERROR,
    ]  # fmt: skip


def plain(record: msgspec.Struct) -> Any:
    return json.loads(to_json(record))


def test_the_files_in_docs_are_generated_from_the_records() -> None:
    assert (DOCS / "messages.schema.json").read_text(encoding="utf-8") == schema_text()
    page = (DOCS / "messages.md").read_text(encoding="utf-8")
    assert put_into(page) == page, "run `make schema`"


def test_there_is_a_record_of_every_kind() -> None:
    kinds = {type(record) for record in one_of_each()}
    assert kinds == {
        *(topic.record for topic in records.TOPICS), records.Request, *records.ANSWERS,
    }  # fmt: skip


@pytest.mark.parametrize("record", one_of_each(), ids=lambda r: type(r).__name__)
def test_every_record_keeps_to_its_schema(record: msgspec.Struct) -> None:
    jsonschema.Draft202012Validator.check_schema(schema_of(type(record)))
    jsonschema.validate(plain(record), schema_of(type(record)))


@pytest.mark.slow
@pytest.mark.parametrize("record", one_of_each(), ids=lambda r: type(r).__name__)
def test_the_schema_notices_a_field_that_is_missing_or_of_another_type(
    record: msgspec.Struct,
) -> None:
    schema = schema_of(type(record))
    required = json_schema()["$defs"][type(record).__name__]["required"]
    for name in required:
        for spoilt in (without(plain(record), name), {**plain(record), name: object}):
            body = {key: None if value is object else value for key, value in spoilt.items()}
            if name in body and body[name] is None and plain(record)[name] is None:
                continue  # the field is null
            if name in body and allows_null(schema, type(record).__name__, name):
                continue
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate(body, schema)


def without(body: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key != name}


def allows_null(schema: dict[str, Any], record: str, name: str) -> bool:
    field = schema["$defs"][record]["properties"][name]
    return any(option.get("type") == "null" for option in field.get("anyOf", []))


def test_every_field_has_a_meaning() -> None:
    for name, definition in json_schema()["$defs"].items():
        assert definition["description"], name
        for field, of in definition["properties"].items():
            assert of.get("description") or "$ref" in of, f"{name}.{field}"


def test_a_topic_is_made_of_the_record_and_takes_no_other() -> None:
    assert records.ACTION.of(event(1)) == "action/door/left/"
    assert records.ACTION.pattern == "action/<camera>/<label>/"
    assert records.LOG_STATUS.of(WORDING.log_status(None, 5)) == "status/_log/"
    with pytest.raises(TypeError, match="topic action carries"):
        records.ACTION.of(ERROR)
