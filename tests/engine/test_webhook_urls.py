"""A url of a webhook comes from outside, and the request from inside: it must not lead in."""

import pytest
import trio

from engine.webhook_urls import Place, Rules, checked, place
from protocol.errors import BadParameter

OPEN = Rules(plain=True, private=True)


class Names(trio.abc.HostnameResolver):
    """What names mean, here."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def getaddrinfo(  # type: ignore[override]
        self, host: object, port: object, *rest: object, **more: object
    ) -> list[tuple[object, ...]]:
        return [(2, 1, 6, "", (one, port)) for one in self.addresses]

    async def getnameinfo(self, sockaddr: object, flags: int) -> tuple[str, str]:
        raise NotImplementedError


@pytest.mark.parametrize(
    "url",
    [
        "https://ops.example/hook",
        "https://ops.example:8443/hook?a=b",
        "https://93.184.216.34/",
        "https://[2606:2800:220:1:248:1893:25c8:1946]/x",
    ],
)
def test_a_url_of_the_world_is_taken_as_it_is(url: str) -> None:
    assert checked(url, Rules()) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ops.example/hook",
        "http://ops.example/hook",
        "ftp://ops.example/",
        "file:///etc/passwd",
        "gopher://ops.example/",
        "https://",
        "https:///x",
        "https://user:word@ops.example/",
        "https://user@ops.example/",
        "https://ops.example/#x",
        "https://ops.example:0/",
        "https://ops.example:99999/",
        "https://ops.example:x/",
        "https://ops.example/a b",
        "https://ops.example/\n",
        "https://ops.example/\r\nHost: x",
        "https://öps.example/",
        "https://[::1/",
        f"https://ops.example/{'x' * 2000}",
        "https://127.0.0.1/",
        "https://10.0.0.1/",
        "https://192.168.1.1/",
        "https://172.16.0.1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://0.0.0.0/",
        "https://224.0.0.1/",
        "https://255.255.255.255/",
        "https://[::1]/",
        "https://[::]/",
        "https://[fe80::1]/",
        "https://[fd00::1]/",
        "https://[::ffff:127.0.0.1]/",
    ],
)
def test_a_url_that_leads_elsewhere_is_refused(url: str) -> None:
    with pytest.raises(BadParameter) as caught:
        checked(url, Rules())
    assert caught.value.name == "url"


def test_the_configuration_may_allow_more() -> None:
    assert checked("http://127.0.0.1:8080/x", OPEN)
    with pytest.raises(BadParameter):
        checked("http://127.0.0.1/x", Rules(private=True))
    with pytest.raises(BadParameter):
        checked("http://127.0.0.1/x", Rules(plain=True))


@pytest.mark.parametrize("addresses", [("127.0.0.1",), ("93.184.216.34", "10.0.0.1"), ("::1",)])
async def test_a_name_that_means_an_address_of_ours_is_refused_at_each_delivery(
    addresses: tuple[str, ...],
) -> None:
    trio.socket.set_custom_hostname_resolver(Names(*addresses))
    with pytest.raises(BadParameter, match="of this machine or its network"):
        await place("https://ops.example/hook", Rules())


async def test_the_address_that_was_checked_is_the_one_that_is_used() -> None:
    trio.socket.set_custom_hostname_resolver(Names("93.184.216.34"))
    assert await place("https://ops.example/hook?a=b", Rules()) == Place(
        "https://93.184.216.34:443/hook?a=b", "ops.example", "ops.example"
    )
    assert await place("https://ops.example:8443", Rules()) == Place(
        "https://93.184.216.34:8443/", "ops.example", "ops.example:8443"
    )
