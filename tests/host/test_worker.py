"""What a worker does before it begins."""

import io
import logging
import sys
from pathlib import Path

import pytest
import structlog

from host import worker
from tests.host.test_folder import spec


@pytest.mark.parametrize(
    ("before", "after"), [("-900\n", "0"), ("-1\n", "0"), ("0\n", "0\n"), ("300\n", "300\n")]
)
def test_a_worker_is_not_protected_as_the_agent_is(tmp_path: Path, before: str, after: str) -> None:
    score = tmp_path / "oom_score_adj"
    score.write_text(before)
    worker._unprotect(score)
    assert score.read_text() == after


class Gone(io.StringIO):
    """The reader has ended."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logging as it was, afterwards."""
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", root.handlers[:])
    monkeypatch.setattr(root, "level", root.level)
    monkeypatch.setattr(structlog, "configure", lambda **options: None)


@pytest.mark.usefixtures("quiet")
def test_every_line_names_the_job_whatever_its_client_is_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = io.StringIO()
    monkeypatch.setattr(sys, "stderr", lines)
    wanted = spec(flow_id="50%s\nof it")
    worker._log_for(wanted)
    logging.getLogger("storage").warning("it is %s", "slow")
    said = f"WARNING storage: it is slow job={wanted.job_id} flow_id='50%s\\nof it'\n"
    assert lines.getvalue() == said


@pytest.mark.usefixtures("quiet")
def test_lines_that_nobody_reads_hurt_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Gone())
    worker._log_for(spec())
    logging.getLogger("storage").warning("it is slow")
