"""All verbs of the agent, by name."""

from host.verbs import (
    host,
    image,
    job,
    lease,
    local_disk,
    managed_volume,
    sdm,
    storage_domain,
    task,
    volume,
)
from host.verbs.verb import Verb

VERBS: dict[str, Verb] = {
    verb.name: verb
    for module in (
        host,
        sdm,
        job,
        lease,
        managed_volume,
        local_disk,
        storage_domain,
        volume,
        image,
        task,
    )
    for verb in module.VERBS
}
