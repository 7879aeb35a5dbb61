"""The OpenAPI document describes what is served: schemathesis asks every operation of it."""

import re
from collections.abc import Iterator
from inspect import getsource
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis import Case
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.generation import GenerationMode
from starlette.routing import Route

from engine.host_files import HostFiles
from engine.rest.app import application
from engine.rest.openapi import PARAMETERS, document
from engine.rest.operation import OVIRT, Operation
from engine.rest.resources import OPERATIONS
from engine.rest.settings import RestSettings
from tests.engine.rest.site import Site, site

SCHEMA = schemathesis.openapi.from_dict(document(OPERATIONS))
QUICK, LONG = 4, 200  # requests of each kind for one operation
IDS = [f"{one.method} {one.path}" for one in OPERATIONS]


load_all_checks()
# What is sent may have more than is known, and a number in place of a string: oVirt's clients do.
# And every request here has its token, so that one without it is no test of the document.
EXCLUDED: list[Any] = CHECKS.get_by_names(["negative_data_rejection", "missing_required_header"])
# What no schema says: an option of a driver stands there once.
STRICT: dict[str, list[Any]] = {
    f"POST {OVIRT}/storagedomains": CHECKS.get_by_names(["positive_data_acceptance"])
}


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One of its own: what schemathesis does to it is anybody's guess."""
    files = HostFiles(ca="/nowhere", certificate="/nowhere", key="/nowhere")
    config = RestSettings(rate=1e6, burst=1_000_000, hosts=files)
    with site(tmp_path_factory.mktemp("fuzzed"), config) as made:
        disk = made.disk("known")
        made.begin_disk("locked")
        made.disk(domain="other")
        assert disk
        yield made


def test_every_operation_is_in_the_document_and_its_parameters_are_known() -> None:
    told = document(OPERATIONS)["paths"]
    for one in OPERATIONS:
        found = told[one.path][one.method.lower()]
        assert found["summary"] == one.about
        assert set(one.query) <= set(PARAMETERS)
    names = [one["operationId"] for path in told.values() for one in path.values()]
    assert len(names) == len(set(names)) == len(OPERATIONS)
    assert all(re.fullmatch(r"\w+", name) for name in names)


def test_what_an_operation_of_ours_reads_of_its_body_is_in_the_document() -> None:
    told = document(OPERATIONS)["paths"]
    ours = [one for one in OPERATIONS if not one.is_ovirt]
    assert any("call.struct(" in getsource(one.handler) for one in ours)
    for one in ours:
        reads = "call.struct(" in getsource(one.handler)
        assert ("requestBody" in told[one.path][one.method.lower()]) is reads, one.action


def test_the_document_is_served_as_it_is(served: Site) -> None:
    with served.client("reader") as client:
        told = client.get("/leasehold/api/v1/openapi.json").json()
    assert told == document(OPERATIONS)


def test_every_route_is_an_operation_or_a_login(served: Site) -> None:
    routes = [one for one in application(served.api).routes if isinstance(one, Route)]
    others = {one.path for one in routes} - {one.path for one in OPERATIONS}
    assert others == {
        "/ovirt-engine/sso/oauth/token",
        "/ovirt-engine/sso/oauth/revoke",
        "/ovirt-engine/services/sso-logout",
    }


# Headers made by chance. What they say of the message itself is HTTP's: where it is wrong, the
# request ends before it reaches an operation.
FRAMING = {"connection", "content-length", "expect", "host", "transfer-encoding", "upgrade"}


def _ask(fuzzed: Site, one: Operation, mode: GenerationMode, most: int) -> None:
    operation = SCHEMA[one.path][one.method]
    token = fuzzed.token()
    excluded = EXCLUDED + STRICT.get(f"{one.method} {one.path}", [])

    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    @hypothesis.settings(
        max_examples=most,
        deadline=None,
        database=None,
        derandomize=most == QUICK,  # what comes by chance comes with --full
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Case[Any]) -> None:
        hypothesis.assume(FRAMING.isdisjoint(name.lower() for name in case.headers or ()))
        accept = "application/json" if not one.path.startswith(OVIRT) else _accept(case)
        headers: dict[str, Any] = {"Authorization": f"Bearer {token}", "Accept": accept}
        case.call_and_validate(base_url=fuzzed.url, headers=headers, excluded_checks=excluded)

    ask()


def _accept(case: Case[Any]) -> str:
    """By turns: the form of the body, where there is one."""
    return case.media_type or "application/json"


@pytest.mark.parametrize("one", OPERATIONS, ids=IDS)
def test_what_the_document_allows_is_answered_as_it_says(fuzzed: Site, one: Operation) -> None:
    _ask(fuzzed, one, GenerationMode.POSITIVE, QUICK)


@pytest.mark.parametrize("one", OPERATIONS, ids=IDS)
def test_what_it_does_not_allow_is_no_fault_of_the_engine(fuzzed: Site, one: Operation) -> None:
    _ask(fuzzed, one, GenerationMode.NEGATIVE, QUICK)


@pytest.mark.full
@pytest.mark.parametrize("mode", list(GenerationMode), ids=str)
@pytest.mark.parametrize("one", OPERATIONS, ids=IDS)
def test_hundreds_of_requests_find_nothing_either(
    fuzzed: Site, one: Operation, mode: GenerationMode
) -> None:
    _ask(fuzzed, one, mode, LONG)
