"""Which error ends a command with which code."""

import inspect

import pytest

from cli import exits
from protocol import errors, jsonrpc
from protocol.reported import Reported

CLASSES = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.Error) and kind is not errors.Error
]
# Everything that an image, a source or a target can be refused for.
OF_IMAGES: set[type[errors.Error]] = {errors.ImageRefused, errors.WrongFormat, errors.TooSmall}
OF_IMAGES |= {errors.ReadOnly, errors.SameImage, errors.ImageInUse}
# Failures of work that was begun: the general code.
GENERAL = {errors.ReleaseLockFailure, errors.ToolMissing, errors.ToolStalled, errors.FlushFailed}
GENERAL |= (
    {errors.BadOutput, errors.VerifyFailed, errors.SourceShrank}
    | {errors.WorkerDied, errors.WorkerNotStarted}
    | set(errors.ToolFailed.__subclasses__())
    | {errors.ToolFailed}
)
GENERAL |= {errors.AdapterFailed, errors.AdapterGarbage, errors.AdapterStalled}
GENERAL |= {errors.ManagedStorageFailed, errors.ManagedVolumeHelperFailed}
GENERAL |= {errors.ManagedVolumeUnsupportedDevice, errors.CopyFailed}
GENERAL -= {errors.ImageInUse, errors.ConnectionLost}


def made(kind: type[errors.Error]) -> errors.Error:
    return kind.__new__(kind)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_class_of_error_was_thought_of(kind: type[errors.Error]) -> None:
    assert (exits.before_job(made(kind)) == exits.FAILED) == (kind in GENERAL)


@pytest.mark.parametrize("kind", sorted(OF_IMAGES, key=str))
def test_an_image_is_bad_input_and_never_refused_by_the_state(kind: type[errors.Error]) -> None:
    assert exits.before_job(made(kind)) == exits.BAD_INPUT


@pytest.mark.parametrize(
    ("code", "numbers"),
    [(exits.REFUSED, {651, 911, 912, 2009}), (exits.NOT_FOUND, {66, 358, 936, 4101})],
)
def test_the_codes_that_the_contract_names(code: int, numbers: set[int]) -> None:
    found = {kind.code for kind in CLASSES if exits.before_job(made(kind)) == code}
    assert numbers <= found


def test_any_other_error_is_a_failure() -> None:
    assert exits.before_job(OSError()) == exits.FAILED
    assert exits.before_job(KeyboardInterrupt()) == exits.ABORTED


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_inside_the_job_every_error_is_a_failed_job(kind: type[errors.Error]) -> None:
    if kind not in exits.REFUSALS:
        assert exits.after_job(made(kind)) == exits.FAILED


def test_a_job_that_is_refused_as_it_begins_ends_like_one_that_is_refused_before() -> None:
    found = {kind.code: exits.before_job(made(kind)) for kind in exits.REFUSALS}
    assert found == {651: 6, 911: 6, 912: 6, 936: 3, 2009: 6}
    for kind in exits.REFUSALS:
        if kind is not errors.JobStatusMismatch:
            assert exits.after_job(made(kind)) == found[kind.code]


def test_a_job_that_was_fenced_as_it_began_ends_as_fenced() -> None:
    assert exits.after_job(errors.JobStatusMismatch("PENDING", "FENCED")) == exits.ABORTED
    assert exits.after_job(errors.JobStatusMismatch("PENDING", "FAILED")) == exits.REFUSED


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_that_a_host_told_ends_as_one_of_ours(kind: type[errors.Error]) -> None:
    told = Reported({"code": kind.code, "kind": "", "message": "", "data": {}})
    assert exits.kind_of(told) is kind
    assert exits.before_job(told) == exits.before_job(made(kind))


def test_an_error_of_which_only_a_host_knows_is_a_failure() -> None:
    told = Reported({"code": 4999, "kind": "New", "message": "", "data": {}})
    assert (exits.before_job(told), exits.after_job(told)) == (exits.FAILED, exits.FAILED)


def test_what_a_role_may_not_do_is_refused() -> None:
    told = Reported(jsonrpc.Forbidden("Job.abort", "monitor").to_rpc())
    assert exits.before_job(told) == exits.REFUSED


def test_a_job_that_was_fenced_on_a_host_ends_as_fenced() -> None:
    fenced = Reported(errors.JobStatusMismatch("PENDING", "FENCED").to_rpc())
    failed = Reported(errors.JobStatusMismatch("PENDING", "FAILED").to_rpc())
    assert (exits.after_job(fenced), exits.after_job(failed)) == (exits.ABORTED, exits.REFUSED)
