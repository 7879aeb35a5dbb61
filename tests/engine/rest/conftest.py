"""One served application for the tests of a module; they leave it usable."""

from collections.abc import Iterator

import pytest

from tests.engine.rest.site import Site, site


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("engine")) as made:
        yield made
