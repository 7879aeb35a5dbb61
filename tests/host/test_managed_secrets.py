"""Secrets of a connection are shown to nobody."""

from typing import Any

import pytest

from host.managed_secrets import HIDDEN, concealed, hidden, secrets

KEY = "AQBHCbtT6APDHhAAD5W00cBchwkQjh3dkKsyPjw=="
CONNECTION = {
    "driver_volume_type": "rbd",
    "adapter": None,
    "data": {
        "name": "volumes/disk",
        "auth_username": "host1",
        "auth_password": "open sesame",
        "secret_uuid": "457eb676-33da-42ec-9a8c-9293d545c337",
        "secret_type": "ceph",
        "keyring": f"[client.host1]\n\tkey = {KEY}\n",
        "paths": [{"discovery_auth_password": "second one"}],
        "encryption_key": {"inner": ["third one"]},
        "access_token": "",
        "password": None,
        "hosts": ["10.0.0.1"],
    },
}


@pytest.mark.parametrize("secret", ["open sesame", "second one", "third one", KEY])
def test_no_message_shows_a_secret(secret: str) -> None:
    text = f"command failed: --password {secret} at 10.0.0.1"
    shown = f"command failed: --password {HIDDEN} at 10.0.0.1"
    assert hidden(text, secrets(CONNECTION)) == shown


def test_what_is_no_secret_is_shown() -> None:
    text = (
        "volumes/disk of host1 by ceph, 457eb676-33da-42ec-9a8c-9293d545c337: no key = [client.x]"
    )
    assert hidden(text, secrets(CONNECTION)) == text


@pytest.mark.parametrize("empty", [{}, {"data": {"password": ""}}, {"data": {"password": "a"}}])
def test_a_secret_that_is_too_short_to_be_one_hides_nothing(empty: dict[str, Any]) -> None:
    assert hidden("a password", secrets(empty)) == "a password"


def test_a_connection_without_its_secrets_has_the_rest() -> None:
    found = concealed(CONNECTION)
    assert found.keys() == CONNECTION.keys()
    assert found["data"] == {
        **CONNECTION["data"],  # type: ignore[dict-item]
        "auth_password": HIDDEN,
        "keyring": HIDDEN,
        "paths": [{"discovery_auth_password": HIDDEN}],
        "encryption_key": {"inner": [HIDDEN]},
    }
