"""The documents say what is true: their commands are run, their tables compared with the code."""

import re
import tomllib
from pathlib import Path

import pytest

from cli import exits
from protocol import errors
from protocol.errors import Error
from tests import tours

TOP = Path(__file__).parents[2]
README = TOP / "README.md"
DOCUMENTS = [README, *sorted((TOP / "docs").rglob("*.md"))]


@pytest.mark.tools("qemu-img")
def test_the_tour_of_the_readme_is_what_happens() -> None:
    steps = tours.tour(README)
    assert len(steps) > 15
    tours.check(steps, tours.run_here(steps))


def test_the_tour_shows_progress() -> None:
    shown = [line for step in tours.tour(README) for line in step.shown]
    assert any(tours.PROGRESS.fullmatch(line) for line in shown)


def test_every_script_of_the_readme_exists_and_every_script_is_in_it() -> None:
    named = set(re.findall(r"scripts/([a-z]+)\b", README.read_text()))
    listed = set(re.findall(r"`([a-z]+)`", _row("`scripts/`", README)))
    there = {path.name for path in (TOP / "scripts").iterdir() if not path.suffix}
    assert named <= there
    assert listed == there


def test_the_readme_lists_the_exit_codes() -> None:
    listed = [int(code) for code in re.findall(r"^\| (\d) \| ", README.read_text(), re.MULTILINE)]
    values = [value for value in vars(exits).values() if type(value) is int]
    assert listed == sorted(values)


def test_every_error_is_in_the_failures_with_its_code_and_exit_status() -> None:
    text = (TOP / "docs" / "failures.md").read_text()
    rows = re.findall(r"^\| `(\w+)` (\d+) \| (\d) \|", text, re.MULTILINE)
    listed = {name: (int(code), int(status)) for name, code, status in rows}
    assert len(listed) == len(rows), "an error has two rows"
    classes = [one for one in vars(errors).values() if isinstance(one, type)]
    expected = {
        one.__name__: (one.code, exits.before_job(one.__new__(one)))
        for one in classes
        if issubclass(one, Error)
    }
    assert listed == expected


def test_every_row_of_the_failures_says_what_to_do() -> None:
    lines = (TOP / "docs" / "failures.md").read_text().splitlines()
    rows = [
        line
        for line in lines
        if line.startswith("| ") and not line.startswith(("| error ", "| fault "))
    ]
    assert len(rows) > 50
    assert [row for row in rows if not all(cell.strip() for cell in row.split("|")[1:-1])] == []


def test_every_package_is_named_in_the_architecture_and_the_readme() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text())
    packages = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    packages |= {path.parent.name for path in TOP.glob("*/__init__.py")}
    for document in (README, TOP / "docs" / "architecture.md"):
        text = document.read_text()
        assert [name for name in packages if f"{name}/" not in text] == [], document.name


def test_every_path_of_a_module_in_the_documents_exists() -> None:
    packages = "|".join(path.parent.name for path in TOP.glob("*/__init__.py"))
    pattern = re.compile(rf"`((?:{packages}|docs|scripts)/[\w./-]*\w\.\w+)`")
    missing = [
        f"{document.name}: {path}"
        for document in DOCUMENTS
        for path in pattern.findall(document.read_text())
        if not (TOP / path).exists()
    ]
    assert missing == []


def test_the_glossary_has_every_term_once_in_order() -> None:
    text = (TOP / "docs" / "glossary.md").read_text()
    terms = re.findall(r"^\| \*\*(.+?)\*\* \|", text, re.MULTILINE)
    assert len(terms) > 40
    assert terms == sorted(set(terms), key=str.lower)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_points_to_something(document: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", document.read_text())
    assert [link for link in links if ":" not in link and not _leads(document, link)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_no_document_names_a_place_outside_of_the_repository(document: Path) -> None:
    text = document.read_text()
    outside = [
        path
        for path in re.findall(r"(?:\.\./)+[\w./-]*", text)
        if not (document.parent / path).resolve().is_relative_to(TOP)
    ]
    assert outside == []
    assert re.findall(r"\bTODO\b|\bFIXME\b|\bXXX\b|/home/\w+", text) == []


def _row(first: str, document: Path) -> str:
    """The row of a table whose first cell is `first`."""
    rows = [line for line in document.read_text().splitlines() if line.startswith(f"| {first} |")]
    assert len(rows) == 1
    return rows[0].removeprefix(f"| {first} |")


def _leads(document: Path, link: str) -> bool:
    """Whether a relative link leads to a file or folder of the repository, and to its heading."""
    path, _, anchor = link.partition("#")
    place = (document.parent / path).resolve() if path else document
    if not place.is_relative_to(TOP) or not place.exists():
        return False
    return not anchor or anchor in _anchors(place)


def _anchors(document: Path) -> set[str]:
    """The anchors of the headings of a document, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}
