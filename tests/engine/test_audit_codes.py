"""docs/engine.md has every code of the audit log, with its severity."""

import re
from pathlib import Path

from engine import admin, failed_logins, first_admin, met
from engine.commands import telling
from engine.commands.next_step import Did
from engine.commands.states import State

PAGE = Path(__file__).parents[2] / "docs" / "engine.md"


def of_the_page() -> dict[int, str]:
    _, _, text = PAGE.read_text().partition("## Codes of the audit log")
    rows = re.findall(r"^\| (\d+) \| ([a-z, ]+) \| \S", text.partition("\n## ")[0], re.MULTILINE)
    codes = {int(code): severity for code, severity in rows}
    assert len(codes) == len(rows), "a code has two rows"
    return codes


def test_the_page_has_every_code_of_the_audit_log() -> None:
    told = [
        telling.begun("x"),
        telling.wished("x", "abort"),
        *(telling.stage("x", "y", did) for did in Did),
        *(telling.ended("x", state) for state in State if state in telling.ENDED),
    ]
    assert {one.code for one in told} == {
        telling.BEGUN,
        telling.MOVED,
        telling.STAGE_FAILED,
        telling.STAGE_KEPT,
        telling.WISHED,
        *telling.ENDED.values(),
    }
    assert of_the_page() == {
        admin.CODE: "normal",
        first_admin.CODE: "normal",
        met.TWIN: "warning, normal",
        failed_logins.CODE: "warning",
        **{one.code: one.severity for one in told},
    }
