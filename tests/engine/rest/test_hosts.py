"""A host as REST tells it."""

from dataclasses import replace

import pytest

from engine.db.hosts import Host
from engine.host_states import LinkState
from engine.host_view import HostView
from engine.rest.resources.hosts import host_element

ROW = Host("h1", "a", "unix:/a")
UP = HostView("h1", "a", LinkState.UP, "", up=True, maintenance=False, capabilities=None)
SILENT = replace(UP, state=LinkState.CONNECTING, reason="no answer", up=False)


@pytest.mark.parametrize(
    ("view", "joining", "detail"),
    [
        (None, "", None),
        (UP, "", None),
        (SILENT, "", "no answer"),
        (UP, "it has not joined domain d", "it has not joined domain d"),
        (replace(UP, twin="it is b"), "it has not joined domain d",
         "it gets no managed volumes: it is b; it has not joined domain d"),
    ],
    ids=("gone", "up", "silent", "outside of a domain", "a twin"),
)  # fmt: skip
def test_what_is_wrong_with_a_host_is_told(
    view: HostView | None, joining: str, detail: str | None
) -> None:
    assert host_element(ROW, view, joining).fields["status_detail"] == detail
