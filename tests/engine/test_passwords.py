"""Passwords at rest."""

import pytest

from engine import passwords
from engine.passwords import hashed, matches
from protocol.errors import BadParameter


def test_a_password_matches_what_was_kept_of_it_and_no_other_does() -> None:
    kept = hashed("correct horse")
    assert matches("correct horse", kept)
    assert not matches("correct horsE", kept)
    assert not matches("", kept)
    assert "correct" not in kept


def test_the_same_password_is_kept_differently_each_time() -> None:
    assert hashed("correct horse", cost=16) != hashed("correct horse", cost=16)


def test_nobody_matches_and_it_costs_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = []
    derived = passwords._derived

    def spied(password: str, salt: bytes, cost: int) -> bytes:
        costs.append(cost)
        return derived(password, salt, cost)

    monkeypatch.setattr(passwords, "_derived", spied)
    assert not matches("correct horse", None)
    assert costs == [passwords.COST]
    # Not even the password whose hash would be the one of nobody.
    monkeypatch.setattr(passwords, "_derived", lambda password, salt, cost: bytes(64))
    assert not matches("correct horse", None)


@pytest.mark.parametrize("password", ["", "short", "x" * 1025])
def test_passwords_that_are_too_short_or_too_long_are_refused(password: str) -> None:
    with pytest.raises(BadParameter):
        hashed(password)
    assert not matches(password, None)
