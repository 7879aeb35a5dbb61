"""Names of things: letters of any script, and nothing that a program would read."""

import pytest

from engine.names import checked_name, checked_text, checked_user
from protocol.errors import BadParameter

TRICKS = [
    "",
    " ",
    " x",
    "x ",
    "a  b",
    ".",
    "..",
    "...",
    "../../etc/passwd",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "x'; DROP TABLE disks; --",
    '" OR ""="',
    "$(reboot)",
    "`reboot`",
    "%s%n",
    "a*",
    "a?b",
    "<b>",
    "a&b",
    "a\nb",
    "a\0b",
    "a\x1b[2J",
    "\u202eevil",
    "\ud800",
    "x" * 256,
]


@pytest.mark.parametrize("name", TRICKS)
def test_tricks_are_no_names(name: str) -> None:
    with pytest.raises(BadParameter):
        checked_name("name", name)
    with pytest.raises(BadParameter):
        checked_user(name)


@pytest.mark.parametrize(
    "name", ["x", "disk-1", "Copy of a.b (2)", "Größe_1", "磁盘", "a@b:c#1+2", "x" * 255]
)
def test_names_that_people_give_are_names(name: str) -> None:
    assert checked_name("name", name) == name


def test_a_description_is_one_line() -> None:
    assert checked_text("description", "all <kinds> of 'text'; 100%") != ""
    assert checked_text("description", "") == ""
    for text in ("a\nb", "a\0", "x" * 4001):
        with pytest.raises(BadParameter):
            checked_text("description", text)
