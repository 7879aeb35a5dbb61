"""How many copies at once may have an end in a storage domain. oVirt's API has no place for it."""

import msgspec

from engine.db import domains
from engine.rest.api import Api
from engine.rest.operation import OURS, Answer, Call, Operation
from engine.rest.reading import domain_at, path_id


class LimitsTold(msgspec.Struct, frozen=True):
    """copies: null: as `limits.copies_per_domain` of the configuration has it."""

    copies: int | None = None


class NewLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    copies: int | None


async def get_limits(api: Api, call: Call) -> Answer:
    row = await api.database.read(lambda c: domain_at(c, call))
    return Answer(LimitsTold(row.limits.get("copies")))


async def set_limits(api: Api, call: Call) -> Answer:
    domain = path_id(call, "storage domain")
    await api.domain_admin(call).limit(domain, call.struct(NewLimits).copies)
    row = await api.database.read(lambda c: domains.get(c, domain))
    return Answer(LimitsTold(row.limits.get("copies")))


_ONE = f"{OURS}/domains/{{id}}/limits"

OPERATIONS = (
    Operation("GET", _ONE, get_limits, "The limits of a storage domain.", gives=LimitsTold),
    Operation("PUT", _ONE, set_limits, "Change them.", "admin", takes=NewLimits, gives=LimitsTold),
)
