"""Secrets are sealed, each to its place; without the key a database tells none."""

import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from engine.db import domains, webhooks
from engine.db.database import Database
from engine.db.secrets import Key, key_of
from engine.db.webhooks import Webhook
from protocol.errors import BadParameter
from tests.engine.db.things import added_domain, domain, new_id

KEY = Key(bytes(range(32)))
PLACE = "domains.secret of x"
WORD = "open-sesame-4711"


@given(st.recursive(st.none() | st.booleans() | st.integers(0, 9) | st.text(), st.lists))
def test_what_is_sealed_is_unsealed(value: object) -> None:
    assert KEY.unseal(KEY.seal(value, PLACE), PLACE) == value


def test_the_same_is_sealed_differently_each_time() -> None:
    assert KEY.seal(WORD, PLACE) != KEY.seal(WORD, PLACE)


@given(st.integers(0, 60), st.integers(1, 255))
def test_a_changed_byte_is_noticed(at: int, by: int) -> None:
    sealed = bytearray(KEY.seal({"password": WORD}, PLACE))
    sealed[at % len(sealed)] ^= by
    with pytest.raises(BadParameter):
        KEY.unseal(bytes(sealed), PLACE)


@pytest.mark.parametrize(
    "sealed", [b"", b"1", b"1" + KEY.seal(1, PLACE)[1:10]], ids=["empty", "one", "ten"]
)
def test_a_cut_value_is_noticed(sealed: bytes) -> None:
    with pytest.raises(BadParameter):
        KEY.unseal(sealed, PLACE)


def test_a_value_of_another_place_is_noticed() -> None:
    with pytest.raises(BadParameter, match="damaged"):
        KEY.unseal(KEY.seal(WORD, "domains.secret of y"), PLACE)


def test_another_key_is_told_from_damage() -> None:
    with pytest.raises(BadParameter, match=f"not the one that sealed {PLACE}"):
        Key.random().unseal(KEY.seal(WORD, PLACE), PLACE)


# --- the file -----------------------------------------------------------------------------------


def test_a_key_file_is_made_once_and_only_for_us(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "engine.key"
    first = key_of(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert key_of(path).name == first.name
    assert os.listdir(path.parent) == ["engine.key"]


def test_two_that_make_it_at_once_have_one_key(tmp_path: Path) -> None:
    path, found = tmp_path / "engine.key", []
    threads = [threading.Thread(target=lambda: found.append(key_of(path).name)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [key_of(path).name] * 8


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "engine.key"
    key_of(path)
    path.chmod(mode)
    with pytest.raises(BadParameter, match="others may read"):
        key_of(path)


@pytest.mark.parametrize("content", [b"", b"short", b"?" * 44, b"A" * 2000])
def test_a_file_that_holds_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "engine.key"
    path.touch(mode=0o600)
    path.write_bytes(content)
    with pytest.raises(BadParameter, match="holds no key"):
        key_of(path)
    assert path.read_bytes() == content


# --- in the database ----------------------------------------------------------------------------


async def test_another_key_is_refused_when_a_database_is_opened(
    database_url: str, key: Key
) -> None:
    async with Database.opened(database_url, key=key):
        pass
    with pytest.raises(BadParameter, match="not the one that sealed this database"):
        async with Database.opened(database_url, key=Key.random()):
            raise AssertionError
    async with Database.opened(database_url, key=key):
        pass


async def test_no_secret_stands_in_the_files_of_a_database(tmp_path: Path, key: Key) -> None:
    url = f"sqlite:///{tmp_path}/engine.sqlite"
    async with Database.opened(url, key=key) as db:
        one, hook = domain(), Webhook(new_id(), "https://x", ("job.",))
        await db.write(lambda c: domains.add(c, one, secret={"password": WORD}))
        await db.write(lambda c: webhooks.add(c, hook, secret=WORD))
        assert await db.read(lambda c: domains.secret(c, one.id)) == {"password": WORD}
        assert await db.read(lambda c: webhooks.secret(c, hook.id)) == WORD
        written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        assert one.name.encode() in written
        assert WORD.encode() not in written
        for row in (await db.read(domains.all_domains), await db.read(webhooks.all_webhooks)):
            assert WORD not in repr(row)


async def test_a_secret_cannot_be_moved_to_another_row(db: Database) -> None:
    def work(c: Connection) -> str:
        domains.add(c, one := domain(), secret={"password": WORD})
        other = added_domain(c)
        theft = "UPDATE domains SET secret = (SELECT secret FROM domains WHERE id = :one)"
        c.execute(text(f"{theft} WHERE id = :other"), {"one": one.id, "other": other.id})
        return other.id

    other = await db.write(work)
    with pytest.raises(BadParameter, match="damaged"):
        await db.read(lambda c: domains.secret(c, other))
