"""Messages: all kinds of endpoint, and the metadata of a job.

Oracle: BadParameter (1000), or a message whose fields have the types and ranges of the contract,
and which is read back as it is from what it is sent as. What is taken strictly is taken, as the
same, when it is not; and never with a key that we do not know.
"""

import json
from typing import Any, Literal
from uuid import UUID

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import BadParameter
from protocol.messages import (
    DivEndpoint,
    Endpoint,
    ExternalEndpoint,
    JobMetadata,
    LeaseRef,
    LocalEndpoint,
    decode,
    decode_endpoint,
)
from protocol.record import JobStatus
from tests.properties.inputs import JSON, bounded, flipped, some, tries

ID = "5e36a8c5-0000-4000-8000-000000000000"
ROLES: tuple[Literal["source", "destination"], ...] = ("source", "destination")
DIV = {"endpoint_type": "div", "sd_id": ID, "img_id": ID, "vol_id": ID, "generation": 7}
EXTERNAL = {
    "endpoint_type": "external",
    "url": "nbd+unix:///x?socket=/run/x",
    "format": "qcow2",
    "lease": {"sd_id": ID, "lease_id": "any-name"},
    "generation": 999,
    "sparse": True,
    "create": False,
    "is_zero": False,
}
LOCAL = {
    "endpoint_type": "local",
    "backend": "lvmthin",
    "vol_id": ID,
    "lease": {"sd_id": ID, "lease_id": "any-name"},
    "generation": 0,
}
METADATA = {"type": "JOB", "job_id": ID, "generation": 0, "job_status": "PENDING"}
TYPES = ["JOB", "job", "jobs", ""]
FIELDS = sorted({*DIV, *EXTERNAL, *LOCAL, "prepared", "sprase"})

good = st.sampled_from([DIV, EXTERNAL, LOCAL])
SURROGATE = "\ud800"  # half of a character, which JSON can hold and UTF-8 cannot
values = JSON | st.sampled_from(
    [SURROGATE, ID, 0, 999, 1000, True, "raw", "div", "local", "lvm", EXTERNAL["lease"]]
)


def check_generation(value: int | None) -> None:
    assert value is None or (type(value) is int and 0 <= value <= 999)


def check_endpoint(message: Endpoint) -> None:
    check_generation(message.generation)
    if isinstance(message, DivEndpoint):
        ids = (message.sd_id, message.img_id, message.vol_id)
        assert all(type(one) is UUID for one in ids)
        assert type(message.prepared) is bool
        return
    if isinstance(message, LocalEndpoint):
        assert type(message.vol_id) is UUID
        assert message.backend in ("lvm", "lvmthin")
        check_lease(message.lease)
        return
    assert type(message.url) is str
    assert message.format in ("raw", "qcow2")
    assert all(type(f) is bool for f in (message.sparse, message.create, message.is_zero))
    if message.lease is not None:
        check_lease(message.lease)


def check_lease(lease: LeaseRef) -> None:
    assert 1 <= len(lease.lease_id) <= 48
    assert all("!" <= c <= "~" for c in lease.lease_id)


def read_endpoint(data: Any, role: Any, *, strict: bool) -> Endpoint | None:
    with bounded():
        try:
            message = decode_endpoint(data, role=role, strict=strict)
        except BadParameter:
            return None
    check_endpoint(message)
    if role == "destination" and isinstance(message, ExternalEndpoint):
        assert message.lease is not None
        assert message.generation is not None
    assert decode_endpoint(msgspec.to_builtins(message), role=role, strict=True) == message
    return message


def check(data: Any) -> None:
    for role in ROLES:
        strict = read_endpoint(data, role, strict=True)
        lenient = read_endpoint(data, role, strict=False)
        if strict is not None:
            assert strict == lenient
            assert set(data) <= set(FIELDS)


@tries("message", each=4)
@given(JSON | st.dictionaries(st.sampled_from(FIELDS), values))
def test_no_json_crashes_the_reader_of_endpoints(data: Any) -> None:
    check(data)


@tries("message", each=4)
@given(good, st.sampled_from(FIELDS), values)
def test_a_field_with_another_value_is_refused_or_right(data: Any, key: str, value: Any) -> None:
    check({**data, key: value})
    if isinstance(data.get(key), dict) and isinstance(value, dict):
        check({**data, key: {**data[key], **value}})


@tries("message", each=4)
@given(good, st.text(max_size=10), JSON)
def test_an_unknown_field_is_ignored_or_when_strict_refused(
    data: Any, key: str, value: Any
) -> None:
    if key in FIELDS:
        return
    more = {**data, key: value}
    check(more)
    for role in ROLES:
        assert read_endpoint(more, role, strict=True) is None
        assert read_endpoint(more, role, strict=False) == read_endpoint(data, role, strict=True)


@tries("message", each=4)
@given(good, st.sets(st.sampled_from(FIELDS), min_size=1))
def test_a_message_without_some_fields_is_refused_or_right(data: Any, gone: set[str]) -> None:
    rest = {key: value for key, value in data.items() if key not in gone}
    check(rest)
    own = {
        "external": {"url", "format"},
        "div": {"sd_id", "vol_id"},
        "local": {"backend", "vol_id", "lease", "generation"},
    }
    if gone & {"endpoint_type", *own[data["endpoint_type"]]}:
        for role in ROLES:
            assert read_endpoint(rest, role, strict=False) is None


@tries("message", each=64)
@given(good, some, st.integers(0, 3))
def test_a_flipped_byte_of_the_text_of_a_message_is_refused_or_right(
    data: Any, by: int, first: int
) -> None:
    text = json.dumps(data).encode()
    for at in range(first, first + 128, 2):
        try:
            bad = json.loads(flipped(text, at, by))
        except ValueError:
            continue
        check(bad)


def read_metadata(data: Any) -> JobMetadata | None:
    with bounded():
        try:
            message: JobMetadata = decode(data, JobMetadata, name="metadata")
        except BadParameter:
            return None
    check_generation(message.generation)
    assert type(message.job_id) is UUID
    assert message.type.upper() == "JOB"
    expected = message.expectation()
    assert (expected.job_id, expected.status) == (str(message.job_id), message.job_status)
    assert decode(msgspec.to_builtins(message), JobMetadata, name="metadata") == message
    return message


@tries("message", each=2)
@given(JSON, st.dictionaries(st.sampled_from(sorted(METADATA)), values, min_size=1))
def test_metadata_of_a_job_are_refused_or_right(data: Any, changes: Any) -> None:
    read_metadata(data)
    found = read_metadata({**METADATA, **changes})
    if found is None:
        assert json.dumps({**METADATA, **changes}) != json.dumps(METADATA)


@tries("message", each=2)
@given(
    st.uuids(),
    st.integers(-2, 1002),
    st.sampled_from(JobStatus),
    st.sampled_from(TYPES),
)
def test_metadata_are_taken_exactly_when_they_are_in_range(
    job: UUID, generation: int, status: JobStatus, type_: str
) -> None:
    found = read_metadata(
        {"job_id": str(job), "generation": generation, "job_status": status.value, "type": type_}
    )
    right = 0 <= generation <= 999 and type_.upper() == "JOB"
    assert (found is not None) == right
    lower = {"job_id": str(job), "generation": generation, "job_status": status.value.lower()}
    assert read_metadata(lower) is None
