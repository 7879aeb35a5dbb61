"""Messages: what is taken from other clients, and what is refused by name."""

from contextlib import suppress
from typing import Any, Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import BadParameter
from protocol.messages import (
    DivEndpoint,
    ExternalEndpoint,
    JobMetadata,
    LeaseRef,
    decode,
    decode_endpoint,
)
from protocol.record import Expectation, JobStatus

SD, IMG, VOL, LEASE, JOB = (f"5e36a8c5-0000-4000-8000-00000000000{n}" for n in range(5))

Message = dict[str, Any]


def div(**changes: Any) -> Message:
    return {"endpoint_type": "div", "sd_id": SD, "img_id": IMG, "vol_id": VOL, **changes}


def external(**changes: Any) -> Message:
    lease = {"sd_id": SD, "lease_id": LEASE}
    good = {"endpoint_type": "external", "url": "/dev/x", "format": "raw", "lease": lease}
    return {**good, "generation": 0, **changes}


def without(message: Message, *keys: str) -> Message:
    return {key: value for key, value in message.items() if key not in keys}


def test_a_volume_endpoint_has_the_defaults_of_the_contract() -> None:
    assert decode_endpoint(div(), role="destination") == DivEndpoint(
        UUID(SD), UUID(IMG), UUID(VOL), generation=None, prepared=False
    )


def test_an_external_endpoint_has_the_defaults_of_the_contract() -> None:
    endpoint = decode_endpoint(external(), role="destination")
    assert endpoint == ExternalEndpoint(
        url="/dev/x",
        format="raw",
        lease=LeaseRef(UUID(SD), LEASE),
        generation=0,
        sparse=False,
        create=False,
        is_zero=False,
    )


@pytest.mark.parametrize(
    ("message", "sparse"),
    [
        (external(sprase=True), True),
        (external(sprase=False), False),
        (external(sparse=True), True),
        (external(sparse=False, sprase=True), False),  # the right spelling wins
        (external(sparse=True, sprase=False), True),
    ],
)
@pytest.mark.parametrize("strict", [False, True])
def test_the_historic_misspelling_of_sparse_is_understood(
    message: Message, sparse: bool, strict: bool
) -> None:
    before = dict(message)
    endpoint = decode_endpoint(message, role="destination", strict=strict)
    assert isinstance(endpoint, ExternalEndpoint)
    assert endpoint.sparse is sparse
    assert message == before  # the caller's message is left alone


BAD_FOR_BOTH: list[Any] = [
    None,
    [],
    "div",
    7,
    {},
    without(div(), "endpoint_type"),
    div(endpoint_type="managed"),
    div(endpoint_type=None),
    without(div(), "sd_id"),
    without(div(), "img_id"),
    without(div(), "vol_id"),
    div(sd_id="no uuid"),
    div(sd_id=None),
    div(sd_id=f"{SD} "),
    div(vol_id=7),
    div(generation=-1),
    div(generation=1000),
    div(generation="1"),
    div(generation=True),
    div(generation=1.5),
    div(prepared=1),
    div(prepared="true"),
    without(external(), "url"),
    without(external(), "format"),
    external(url=None),
    external(url=["/dev/x"]),
    external(format="cow"),
    external(format="QCOW2"),
    external(format="vmdk"),
    external(format=None),
    external(generation=-1),
    external(generation=1000),
    external(generation=True),
    external(generation="0"),
    external(sparse="yes"),
    external(sprase="yes"),
    external(sparse=None),
    external(create=1),
    external(is_zero=0),
    external(lease="x"),
    external(lease={}),
    external(lease={"sd_id": SD}),
    external(lease={"lease_id": LEASE}),
    external(lease={"sd_id": "x", "lease_id": LEASE}),
    external(lease={"sd_id": SD, "lease_id": ""}),
    external(lease={"sd_id": SD, "lease_id": "a b"}),
    external(lease={"sd_id": SD, "lease_id": "a\n"}),
    external(lease={"sd_id": SD, "lease_id": "é"}),
    external(lease={"sd_id": SD, "lease_id": "x" * 49}),
]
BAD_DESTINATIONS = [
    without(external(), "lease"),
    without(external(), "generation"),
    external(lease=None),
    external(generation=None),
]


@pytest.mark.parametrize("message", BAD_FOR_BOTH, ids=repr)
@pytest.mark.parametrize("role", ["source", "destination"])
def test_bad_input_is_refused(message: Any, role: Literal["source", "destination"]) -> None:
    with pytest.raises(BadParameter) as caught:
        decode_endpoint(message, role=role)
    assert caught.value.name == role


@pytest.mark.parametrize("message", BAD_DESTINATIONS, ids=repr)
def test_lease_and_generation_are_required_on_a_destination_only(message: Message) -> None:
    with pytest.raises(BadParameter, match="required field"):
        decode_endpoint(message, role="destination")
    assert isinstance(decode_endpoint(message, role="source"), ExternalEndpoint)


@pytest.mark.parametrize("generation", [0, 1, 998, 999])
def test_generations_from_0_to_999_are_taken(generation: int) -> None:
    for message in (div(generation=generation), external(generation=generation)):
        endpoint = decode_endpoint(message, role="destination")
        assert endpoint.generation == generation


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (div(legal=True), "legal"),
        (external(legal=False), "legal"),
        (div(url="/x"), "url"),
        (div(sprase=True), "sparse"),
        (external(lease={"sd_id": SD, "lease_id": LEASE, "path": "/x"}), "path"),
        (external(**{"": 0}), ""),
    ],
)
def test_unknown_keys_are_ignored_unless_strict(message: Message, field: str) -> None:
    decode_endpoint(message, role="destination")
    with pytest.raises(BadParameter, match=f"unknown field `{field}`"):
        decode_endpoint(message, role="destination", strict=True)


def test_a_refusal_in_depth_names_where() -> None:
    message = external(lease={"sd_id": SD, "lease_id": LEASE, "path": "/x"})
    with pytest.raises(BadParameter, match=r"destination\.lease"):
        decode_endpoint(message, role="destination", strict=True)


@pytest.mark.parametrize("name", ["a", "x" * 48, LEASE, "!~"])
def test_lease_names_have_up_to_48_printable_characters(name: str) -> None:
    endpoint = decode_endpoint(external(lease={"sd_id": SD, "lease_id": name}), role="destination")
    assert isinstance(endpoint, ExternalEndpoint)
    assert endpoint.lease == LeaseRef(UUID(SD), name)


def metadata(**changes: Any) -> Message:
    return {"type": "JOB", "job_id": JOB, "generation": 3, "job_status": "PENDING", **changes}


@pytest.mark.parametrize("type_", ["JOB", "job", "Job"])
def test_metadata_becomes_an_expectation(type_: str) -> None:
    message = decode(metadata(type=type_), JobMetadata, name="metadata")
    assert message.expectation() == Expectation(JOB, 3, JobStatus.PENDING)


@pytest.mark.parametrize(
    "message",
    [
        None,
        {},
        metadata(type="VM"),
        metadata(type=None),
        metadata(job_id="x"),
        metadata(job_status="RUNNING"),
        metadata(job_status="pending"),
        metadata(generation=1000),
        metadata(generation=True),
        without(metadata(), "job_id"),
        without(metadata(), "generation"),
        without(metadata(), "job_status"),
    ],
    ids=repr,
)
def test_bad_metadata_is_refused(message: Any) -> None:
    with pytest.raises(BadParameter) as caught:
        decode(message, JobMetadata, name="metadata")
    assert caught.value.name == "metadata"


def test_a_message_of_endless_depth_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(BadParameter):
        decode_endpoint(external(lease=deep), role="source")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
FIELDS = ["sd_id", "url", "format", "lease", "generation", "sparse", "sprase", "create", "is_zero"]


@given(key=st.sampled_from(["endpoint_type", *FIELDS]), value=JSON, strict=st.booleans())
def test_any_value_in_any_field_is_taken_or_refused(key: str, value: Any, strict: bool) -> None:
    with suppress(BadParameter):
        decode_endpoint(external(**{key: value}), role="destination", strict=strict)
