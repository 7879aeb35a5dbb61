"""What holds for every verb of leases."""

from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from leases import verbs
from leases.embedded import EmbeddedStore
from leases.store import Store
from protocol.errors import BadParameter
from protocol.record import Expectation

Verb = Callable[[Store, str], Awaitable[object]]


async def fence(store: Store, lease_id: str) -> None:
    await verbs.fence(store, lease_id, Expectation("job", 0), now=1, hardware_id="h")


async def create(store: Store, lease_id: str) -> None:
    await verbs.create(store, lease_id, None, now=1, hardware_id="h")


VERBS: dict[str, Verb] = {
    "create": create,
    "info": verbs.info,
    "status": verbs.status,
    "fence": fence,
    "delete": verbs.delete,
    "delete by force": partial(verbs.delete, force=True),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", ["", "x" * 49, "a b", "ä", "a\n"])
async def test_what_cannot_be_a_name_is_a_bad_parameter(
    store: EmbeddedStore, verb: str, name: str
) -> None:
    with pytest.raises(BadParameter, match="1 to 48 printable") as caught:
        await VERBS[verb](store, name)
    assert caught.value.code == 1000
