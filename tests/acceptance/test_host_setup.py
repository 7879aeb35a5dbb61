"""docs/host-setup.md: its commands are run on a host of their own, with a real systemd."""

import re
from pathlib import Path

import pytest

from tests import tours
from tests.systemd_host import booted

TOP = Path(__file__).parents[2]
PAGE = TOP / "docs" / "host-setup.md"


@pytest.mark.tools("systemctl", "unshare", "nsenter", "openssl", "qemu-img")
def test_a_host_is_set_up_as_the_page_says() -> None:
    steps = tours.tour(PAGE)
    assert len(steps) > 20
    [configuration] = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    with booted() as host:
        host(TOP / "scripts" / "install")
        host.write("/etc/leasehold/host.toml", configuration)
        host.write("/etc/hosts", "127.0.0.1 localhost host1.example.com\n")
        tours.check(steps, tours.run(steps, host.folder, host.environment, host.command()))
