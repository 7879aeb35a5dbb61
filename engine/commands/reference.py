"""docs/commands.md, made from the tables of stages: `python -m engine.commands.reference`."""

import inspect
import sys
from collections.abc import Iterator

from engine.commands.next_step import final_of
from engine.commands.stage import CommandType, Stage
from engine.commands.table import TYPES

HEAD = """\
# Commands

What the engine does to disks, it does as commands. A command is a row of stages, each with its
undo, and a journal of them in the database. This page is made from the code by
`python -m engine.commands.reference >docs/commands.md`; a test compares.

- Before a stage acts, *begin* is on disk; after it, *done*, with what it found out. Ids are chosen
  and written down before anything is made by them.
- An engine that was killed goes on from its journal. The stage in which it was killed acts again:
  it looks at what is there, and adopts it.
- A stage that fails turns the command round: every stage that has begun is undone, the last one
  first. An undo is tried again, with pauses. If it does not succeed, what it should have taken
  away is in **quarantine**: kept, listed, with what a person does about it. What that rests on is
  kept with it: a volume whose attachment could not be ended is not deleted.
- When the **final** stage is done, the command has succeeded. What follows is clean-up: it is tried
  again, and what cannot be cleaned up is in quarantine, which does not change the result.
- A copy of which nobody can say what became of it is **unresolved**: nothing is undone.
- A disk is locked by its command, and unlocked when the command ends. It stays locked only where
  the command is unresolved or in quarantine, and the volume that the disk uses is not whole; and
  where it is the disk of a move that is unresolved, or whose new volume a host may still write to.
- Nothing is made in the folder of an image where an earlier command has left a volume; and no image
  is deleted with a volume in its folder that the command does not remove.
- Abort: between two stages; while a host is waited for and while bytes move, at any time; while a
  volume is attached, between two calls of storage and host, which are not cut off themselves. After
  the final stage it comes too late.

| state | | leads to |
|---|---|---|
| `running` | its stages act, one after the other | `succeeded`, `undoing`, `unresolved` |
| `undoing` | a stage failed, or it was aborted: it is undone | `failed`, `aborted`, `quarantined` |
| `succeeded` | what is left of its clean-up is in quarantine | by *clear*: `running` |
| `failed`, `aborted` | everything was taken back | |
| `unresolved` | nobody can say how its job ended | by *resolve*: `running`, *clear*: `undoing` |
| `quarantined` | it failed, and not everything could be undone | by *clear*: `undoing` |

- `resolve` asks again what became of an unresolved job.
- `resolve` of a move locks its disk again, should an older version have freed it. It is refused
  when the disk has changed since.
- `clear` of an unresolved command counts the job as failed and undoes it: the access of its host is
  cut first. Of any other command it tries again what is in quarantine.
- `clear --by-hand` forgets what is in quarantine: a person has removed it.

## All stages

*rests on*: the stages whose work is kept, or that must have succeeded, when this one is given up or
is to act; "all" stands for every one before it.
"""


def text() -> str:
    """The whole page."""
    lines = [HEAD, "| command | stage | what it does | undo | rests on |", "|---|---|---|---|---|"]
    for kind in TYPES.values():
        lines += _rows(kind)
    lines += ["", "## What happens on storage", ""]
    for kind in TYPES.values():
        lines += [f"### {kind.name}", "", *_about(kind), ""]
    return "\n".join(lines)


def _rows(kind: CommandType) -> Iterator[str]:
    final = kind.stages.index(final_of(kind.stages))
    for place, stage in enumerate(kind.stages):
        cells = (
            f"`{kind.name}`" if place == 0 else "",
            f"`{stage.name}`" + (" **final**" if place == final else ""),
            stage.title,
            _undo(stage, place > final),
            _needs(stage, place),
        )
        yield "| " + " | ".join(cells) + " |"


def _undo(stage: Stage, cleaning: bool) -> str:
    if cleaning:
        return "clean-up: tried again, then quarantine"
    return stage.undone or "nothing to undo"


def _needs(stage: Stage, place: int) -> str:
    if stage.needs is None:
        return "all" if place else ""
    return ", ".join(f"`{name}`" for name in stage.needs) or "nothing"


def _about(kind: CommandType) -> Iterator[str]:
    """The docstring of its module."""
    doc = inspect.getdoc(inspect.getmodule(kind.begin)) or ""
    head, _, rest = doc.partition("\n\n")
    head = head.removeprefix(f"{kind.name}: ")
    yield head[:1].upper() + head[1:]
    yield ""
    yield from rest.splitlines()


if __name__ == "__main__":
    sys.stdout.write(text())
