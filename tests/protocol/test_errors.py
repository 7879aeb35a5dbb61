"""Errors: every class makes its text from its facts, and each code means one thing."""

import dataclasses
import json
from typing import Any, get_type_hints

import pytest

from protocol import errors
from protocol.errors import Error, GenerationMismatch, NoSpaceLeft, ToolFailed, ToolKilled

CLASSES = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, Error) and kind is not Error
]
# The codes that oVirt clients know; the rest of ours lies in 4000 to 4999.
OVIRT = {
    "ActionStopped": 443,
    "AcquireLockFailure": 651,
    "AcquireHostIdFailure": 661,
    "BadParameter": 1000,
    "GenerationMismatch": 911,
    "ImageDoesNotExistInSD": 254,
    "InvalidVolumeMetadata": 751,
    "JobExists": 69,
    "JobNotActive": 84,
    "JobNotDone": 68,
    "JobStatusMismatch": 912,
    "ManagedVolumeAlreadyAttached": 927,
    "ManagedVolumeConnectionMismatch": 929,
    "ManagedVolumeHelperFailed": 926,
    "ManagedVolumeUnsupportedDevice": 928,
    "MetaDataSealIsBroken": 752,
    "MetadataOverflowError": 756,
    "NoSuchJob": 66,
    "NoSuchLease": 936,
    "ReleaseLockFailure": 660,
    "SanlockLVBError": 703,
    "StorageDomainAlreadyExists": 365,
    "StorageDomainCreationError": 351,
    "StorageDomainDoesNotExist": 358,
    "UnknownTask": 401,
    "UnsupportedOperation": 2009,
    "VolumeDoesNotExist": 201,
}


def dummy(kind: type[Error]) -> Error:
    """An error of this class whose every fact can be found again in a text."""
    types = get_type_hints(kind)
    facts: dict[str, Any] = {}
    for number, field in enumerate(dataclasses.fields(kind), start=7001):
        facts[field.name] = number if types[field.name] in (int, float) else f"<{field.name}>"
    return kind(**facts)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_the_text_is_made_from_the_facts(kind: type[Error]) -> None:
    error = dummy(kind)
    assert str(error)
    assert "{" not in str(error)
    assert any(str(value) in str(error) for value in dataclasses.asdict(error).values()) or (
        not dataclasses.fields(kind)
    )


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_the_reply_of_an_error_is_plain_json(kind: type[Error]) -> None:
    error = dummy(kind)
    reply = error.to_rpc()
    assert json.loads(json.dumps(reply)) == reply
    assert reply["code"] == kind.code
    assert reply["kind"] == kind.__name__
    assert reply["message"] == str(error)
    assert reply["data"] == dataclasses.asdict(error)


def test_each_code_means_one_thing() -> None:
    codes = [kind.code for kind in CLASSES]
    assert sorted(codes) == sorted(set(codes))


def test_codes_are_those_of_ovirt_or_in_our_range() -> None:
    ours = {kind.__name__: kind.code for kind in CLASSES if kind.__name__ not in OVIRT}
    known = {kind.__name__: kind.code for kind in CLASSES if kind.__name__ in OVIRT}
    assert known == OVIRT
    assert all(4000 <= code < 5000 for code in ours.values()), ours


def test_facts_with_braces_stand_in_the_text_as_they_are() -> None:
    assert "{0} {status} %s" in str(ToolFailed("qemu-img", 1, "{0} {status} %s"))


def test_an_error_of_another_library_has_code_100_and_its_own_text() -> None:
    assert errors.to_rpc(OSError(5, "Input/output error")) == {
        "code": 100,
        "kind": "OSError",
        "message": "[Errno 5] Input/output error",
        "data": {},
    }
    assert errors.to_rpc(KeyError())["message"] == "KeyError"
    assert errors.to_rpc(GenerationMismatch(1, 2))["code"] == 911


def test_the_classes_of_a_failed_tool_can_be_caught_as_one() -> None:
    error = ToolKilled("qemu-img", -9, "", 9)
    assert isinstance(error, ToolFailed)
    assert str(error) == "qemu-img was killed by signal 9"
    assert issubclass(NoSpaceLeft, ToolFailed)


def test_two_errors_with_the_same_facts_are_two_errors() -> None:
    assert GenerationMismatch(1, 2) != GenerationMismatch(1, 2)
    assert len({GenerationMismatch(1, 2), GenerationMismatch(1, 2)}) == 2
