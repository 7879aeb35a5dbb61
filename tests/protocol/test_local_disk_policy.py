"""The table of what may be done to a VM with local disks, row by row."""

import re
from itertools import product
from pathlib import Path

import pytest

from protocol.errors import UnsupportedOperation
from protocol.local_disk_policy import (
    RULES,
    WAYS_OUT,
    Facts,
    Needs,
    Operation,
    check,
    judged,
    refusal,
)

PAGE = Path(__file__).parents[2] / "docs" / "localdisk.md"

# pinned, copy, kept: all that there is to know.
ALL = {Facts(*facts) for facts in product((True, False), repeat=3)}
NONE: set[Facts] = set()
PINNED = {facts for facts in ALL if facts.pinned}
WITHOUT_COPY = {facts for facts in ALL if not facts.copy}
KEPT = {facts for facts in ALL if facts.kept}

ALLOWED = {
    Operation.START: PINNED,
    Operation.STOP: ALL,
    Operation.REBOOT: ALL,
    Operation.SUSPEND: KEPT,
    Operation.MIGRATE: NONE,
    Operation.UNPIN: WITHOUT_COPY,
    Operation.CLEAR_PROPERTY: WITHOUT_COPY,
    Operation.SNAPSHOT: NONE,
    Operation.RESTORE_SNAPSHOT: NONE,
    Operation.DELETE_SNAPSHOT: NONE,
    Operation.TEMPLATE: NONE,
    Operation.CLONE: NONE,
    Operation.EXPORT: NONE,
    Operation.BACK_UP: NONE,
    Operation.MOVE_DISK: NONE,
    Operation.COPY_DISK: NONE,
    Operation.RESIZE_DISK: WITHOUT_COPY,
    Operation.HOT_PLUG_DISK: NONE,
    Operation.DETACH_DISK: WITHOUT_COPY,
    Operation.DELETE_DISK: WITHOUT_COPY,
    Operation.DELETE_VM: WITHOUT_COPY,
    Operation.DEACTIVATE_DOMAIN: WITHOUT_COPY,
}


def test_every_operation_has_a_row() -> None:
    assert set(ALLOWED) == set(Operation) == set(RULES)
    assert len(ALL) == 8


@pytest.mark.parametrize("operation", Operation, ids=lambda one: one.name)
def test_an_operation_is_allowed_when_the_table_says_so(operation: Operation) -> None:
    assert {facts for facts in ALL if judged(operation, facts).allowed} == ALLOWED[operation]
    assert {facts for facts in ALL if _passes(operation, facts)} == ALLOWED[operation]


@pytest.mark.parametrize("operation", Operation, ids=lambda one: one.name)
def test_a_refusal_says_what_why_and_the_way_out(operation: Operation) -> None:
    rule = RULES[operation]
    if rule.needs is Needs.NOTHING:
        return
    refused = next(iter(ALL - ALLOWED[operation]))
    with pytest.raises(UnsupportedOperation) as caught:
        check(operation, refused)
    for part in (operation.value, rule.reason, WAYS_OUT[rule.needs], refusal(operation)):
        assert part
        assert part in str(caught.value)
    assert judged(operation, refused).reason == rule.reason


def test_who_knows_nothing_about_the_vm_is_careful() -> None:
    may = {operation for operation in Operation if judged(operation, Facts()).allowed}
    assert may == {Operation.STOP, Operation.REBOOT}


def test_the_page_shows_the_table() -> None:
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", PAGE.read_text(), re.MULTILINE)
    names = {str(operation) for operation in Operation}
    shown = [row for row in rows if row[0] in names]
    assert shown == [(str(one), str(rule.needs), rule.reason) for one, rule in RULES.items()]


def _passes(operation: Operation, facts: Facts) -> bool:
    try:
        check(operation, facts)
    except UnsupportedOperation:
        return False
    return True
