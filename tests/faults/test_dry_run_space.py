"""A dry run beside a file system that is too small."""

from pathlib import Path

from tests.cli.run import Cli
from tests.faults.disks import small_file_system
from tests.servers import MIB, pattern, raw_image


def test_a_new_file_that_would_not_fit_is_told_before(cli: Cli, tmp_path: Path) -> None:
    source = raw_image(tmp_path / "source.raw", 32 * MIB, data=pattern(32 * MIB))
    with small_file_system(tmp_path, 8 * MIB) as folder:
        told = cli("copy", source, folder / "new.raw", "--dry-run", "--json")
        assert (told.code, told.error["kind"]) == (2, "TooSmall")
        assert told.error["data"]["needed"] == 32 * MIB
        assert not (folder / "new.raw").exists()
