"""Logins, tokens and roles."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Connection, select

from engine.db import accounts
from engine.db.schema import tokens
from engine.rest.auth import token_hash
from engine.rest.operation import OVIRT, Operation
from engine.rest.resources import OPERATIONS
from engine.rest.settings import RestSettings
from tests.engine.rest.site import PASSWORD, Site, site

DISKS = f"{OVIRT}/disks"
NOBODY = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[Site]:
    """Three failures, and no more for a long time."""
    with site(tmp_path, RestSettings(login_failures=3, login_window=600)) as made:
        yield made


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer wrong",
        "Basic YWRtaW46Y29ycmVjdCBob3JzZQ==",
        "Bearer " + "x" * 5000,
        "Bearer ' OR 1=1 --",
        "Bearer \u00e9",
    ],
)
def test_without_a_good_token_nothing_is_told(served: Site, header: str | None) -> None:
    with served.client(None) as client:
        headers = {} if header is None else {b"authorization": header.encode()}
        for path in (DISKS, OVIRT, "/leasehold/api/v1/commands", "/leasehold/api/v1/openapi.json"):
            answer = client.get(path, headers=headers)
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_token_that_has_expired_is_refused_and_forgotten(served: Site) -> None:
    token = served.login("reader", PASSWORD).json()["access_token"]

    def age(c: Connection) -> None:
        c.execute(tokens.update().where(tokens.c.hash == token_hash(token)).values(expires=1.0))

    served.write(age)
    with served.client(None) as client:
        headers = {"authorization": f"Bearer {token}"}
        assert client.get(DISKS, headers=headers).status_code == 401
    served.login("reader", PASSWORD)
    assert served.read(lambda c: accounts.find_token(c, token_hash(token))) is None


def test_a_token_stands_nowhere_in_the_database(served: Site) -> None:
    token = served.token("reader")
    hashes = served.read(lambda c: list(c.execute(select(tokens.c.hash)).scalars()))
    assert token_hash(token) in hashes
    for file in served.folder.glob("engine.db*"):
        assert token.encode() not in file.read_bytes()


def test_the_end_of_a_token_is_the_end_of_it(served: Site) -> None:
    token = served.login("reader", PASSWORD).json()["access_token"]
    headers = {"authorization": f"Bearer {token}"}
    with served.client(None) as client:
        assert client.get(DISKS, headers=headers).status_code == 200
        form = {"scope": "ovirt-app-api", "token": token}
        for _ in range(2):  # that it is over already is no error
            assert client.post("/ovirt-engine/services/sso-logout", data=form).json() == {}
        assert client.get(DISKS, headers=headers).status_code == 401


@pytest.mark.parametrize("name", ["admin", "admin@internal", "admin@internalsso"])
def test_the_profile_of_ovirt_may_be_there_or_not(served: Site, name: str) -> None:
    answer = served.login(name, PASSWORD)
    assert answer.status_code == 200
    assert set(answer.json()) == {"access_token", "scope", "exp", "token_type"}


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("admin", "wrong"),
        ("nobody", PASSWORD),
        ("' OR ''='", PASSWORD),
        ("../admin", PASSWORD),
        ("admin", "x" * 5000),
        ("admin", PASSWORD + " "),
    ],
)
def test_a_wrong_login_does_not_say_what_was_wrong(served: Site, name: str, password: str) -> None:
    answer = served.login(name, password)
    assert answer.status_code == 401
    assert answer.json()["error"] == "access_denied"
    assert "name or the password" in answer.json()["error_description"]


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({}, 400),
        ({"grant_type": "password"}, 400),
        ({"grant_type": "client_credentials", "username": "admin", "password": PASSWORD}, 400),
        ({"grant_type": "password", "username": "admin", "password": ""}, 400),
        ({"grant_type": "password", "username": "a\0", "password": PASSWORD}, 400),
        ({f"x{n}": "y" for n in range(100)}, 400),
        ({"grant_type": "password", "username": "admin", "password": "x" * 20_000}, 413),
    ],
)
def test_a_form_that_is_no_login_is_refused(
    served: Site, form: dict[str, str], status: int
) -> None:
    with served.client(None) as client:
        assert client.post("/ovirt-engine/sso/oauth/token", data=form).status_code == status
        assert client.post("/ovirt-engine/sso/oauth/token", json=form).status_code == 400


def test_a_field_that_stands_there_twice_is_refused(served: Site) -> None:
    form = f"grant_type=password&username=admin&username=reader&password={PASSWORD}"
    headers = {"content-type": "application/x-www-form-urlencoded"}
    with served.client(None) as client:
        answer = client.post("/ovirt-engine/sso/oauth/token", content=form, headers=headers)
    assert answer.status_code == 400


def test_failed_logins_are_limited_and_the_right_password_then_too(strict: Site) -> None:
    assert strict.login("admin", PASSWORD).status_code == 200
    for _ in range(3):
        assert strict.login("admin", "wrong").status_code == 401
    refused = strict.login("admin", PASSWORD)
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= 600
    assert strict.login("operator", PASSWORD).status_code == 200  # another one's
    assert strict.login("admin@internal", "wrong").status_code == 429  # the same one


def test_a_failed_login_stands_in_the_audit_log_and_the_password_nowhere(tmp_path: Path) -> None:
    with site(tmp_path) as made:
        assert made.login("admin@internal", "tell nobody").status_code == 401
        assert made.login("admin", PASSWORD).status_code == 200
        with made.client("reader") as client:
            events = client.get(f"{OVIRT}/events", headers={"accept": "application/json"}).json()
    (event,) = events["event"]  # a login that succeeded is none
    assert event["description"] == "login of 'admin' from '127.0.0.1' failed"
    assert event["severity"] == "warning"
    for file in tmp_path.glob("engine.db*"):
        assert b"tell nobody" not in file.read_bytes()


def test_one_address_fails_only_so_often_whatever_the_names(strict: Site) -> None:
    statuses = [strict.login(f"user{n}", "wrong").status_code for n in range(10)]
    assert statuses == [401] * 9 + [429]


def test_a_hundred_guesses_at_once_are_no_way_around_the_limit(strict: Site) -> None:
    # Of a user who is not there, which costs as much as a password that is kept.
    with ThreadPoolExecutor(20) as pool:
        guesses = pool.map(lambda n: strict.login("nobody", f"guess{n}").status_code, range(100))
        statuses = list(guesses)
    assert set(statuses) == {401, 429}
    # Two are checked at a time; a third comes in only after it has looked again.
    assert statuses.count(401) <= 4


def _needs(operation: Operation) -> str:
    path = operation.path.replace("{center}", NOBODY)
    for name in ("id", "domain", "step", "name"):
        path = path.replace("{" + name + "}", NOBODY)
    return path


@pytest.mark.parametrize("role", ["reader", "operator"])
def test_every_operation_that_needs_more_than_the_role_is_refused(served: Site, role: str) -> None:
    order = ["reader", "operator", "admin"]
    with served.client(role) as client:
        for one in OPERATIONS:
            answer = client.request(one.method, _needs(one))
            may = order.index(role) >= order.index(one.least)
            assert (answer.status_code == 403) is not may, (one.method, one.path)
            if not may:
                assert f"role {role} may not" in answer.text


def test_what_changes_something_takes_more_than_a_reader() -> None:
    assert [one.path for one in OPERATIONS if one.method != "GET" and one.least == "reader"] == []


def test_a_changed_role_ends_the_tokens(served: Site) -> None:
    users = "/leasehold/api/v1/users"
    with served.client() as admin, served.client(None) as client:
        new = {"name": "carol", "password": "a long password", "role": "reader"}
        assert admin.post(users, json=new).status_code == 201
        assert admin.post(users, json=new).status_code == 409
        token = served.login("carol", "a long password").json()["access_token"]
        headers = {"authorization": f"Bearer {token}"}
        assert client.get("/leasehold/api/v1/me", headers=headers).json()["role"] == "reader"
        assert admin.put(f"{users}/carol", json={"role": "operator"}).status_code == 200
        assert client.get("/leasehold/api/v1/me", headers=headers).status_code == 401
        assert admin.put(f"{users}/carol", json={"password": "another one"}).status_code == 200
        assert served.login("carol", "a long password").status_code == 401
        assert served.login("carol", "another one").status_code == 200
        listed = admin.get(users)
        assert {"name": "carol", "role": "operator"} in listed.json()["users"]
        assert "scrypt" not in listed.text
        assert admin.delete(f"{users}/carol").status_code == 200
        assert served.login("carol", "another one").status_code == 401
        assert admin.delete(f"{users}/carol").status_code == 404


def test_the_last_administrator_stays(served: Site) -> None:
    with served.client() as admin:
        for answer in (
            admin.delete("/leasehold/api/v1/users/admin"),
            admin.put("/leasehold/api/v1/users/admin", json={"role": "reader"}),
        ):
            assert answer.status_code == 409
            assert "last administrator" in answer.text
        assert admin.get("/leasehold/api/v1/me").json() == {"name": "admin", "role": "admin"}


@pytest.mark.parametrize(
    "new",
    [
        {"name": "x", "password": "short", "role": "reader"},
        {"name": "../x", "password": "long enough", "role": "reader"},
        {"name": "x'--", "password": "long enough", "role": "reader"},
        {"name": "x", "password": "long enough", "role": "root"},
        {"name": "x", "password": "long enough"},
        {"name": "x", "password": "long enough", "role": "reader", "more": 1},
    ],
)
def test_users_that_cannot_be_are_refused(served: Site, new: dict[str, str]) -> None:
    with served.client() as admin:
        answer = admin.post("/leasehold/api/v1/users", json=new)
    assert answer.status_code == 400
    assert "long enough" not in answer.text
