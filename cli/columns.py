"""Facts for people: a table, or a line for each."""

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A line for each row, below the head; the last column may be of any width."""
    cells = [tuple(head), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)][:-1]
    return "\n".join(
        "  ".join(
            [*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[-1]]
        ).rstrip()
        for row in cells
    )


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """`name:  text` of each that has a text."""
    told = [(name, text) for name, text in pairs if text]
    width = max((len(name) for name, _ in told), default=0) + 1
    return "\n".join(f"{name + ':':{width}} {text}" for name, text in told)
