"""The folder of an image in a data domain: whose volumes are there, by the rows of the database.

A host deletes an image with all that is in its folder, and the image of a disk has the id of the
disk wherever it is. So what a move has left at a place would lie beside what the next one makes
there; and who takes the one away would take the other with it.
"""

from collections.abc import Collection

from sqlalchemy import Connection

from engine.commands.states import State
from engine.db import called, commands, volumes
from engine.db.volumes import Volume
from protocol.errors import InQuarantine, StillUsed


def must_be_new(c: Connection, domain: str, image: str) -> None:
    """For who is to make the first volume of an image.

    Raises InQuarantine (4412), StillUsed (4406): a command has left one there.
    """
    for one in volumes.of_image(c, domain, image):
        if one.state == "kept":
            raise InQuarantine("volume", f"{one.id} in {_place(c, one)}, {_left(c, one)},")
        raise StillUsed("image", f"{image} in {_place(c, one)}", _user(c, one))


def must_have_no_other(c: Connection, domain: str, image: str, removing: Collection[str]) -> None:
    """For who is to delete an image. removing: ids of its volumes that are to go.

    Others that nothing needs may go with them. Raises StillUsed (4406): of any other one.
    """
    for one in volumes.of_image(c, domain, image, but=removing, needed=True):
        raise StillUsed("image", f"{image} in {_place(c, one)}", _user(c, one))


def _place(c: Connection, volume: Volume) -> str:
    return f"domain {called.domain(c, volume.domain)}"


def _user(c: Connection, volume: Volume) -> str:
    if volume.disk is None:
        return f"volume {volume.id}, {_left(c, volume)}"
    name = called.disk(c, volume.disk)
    return f"volume {volume.id} of disk {name}, which has to be moved elsewhere first"


def _left(c: Connection, volume: Volume) -> str:
    """By which command, and how to be rid of it."""
    command = commands.find(c, volume.command) if volume.command is not None else None
    if command is None:
        return "left there by a command that is forgotten"
    wish = "resolve" if State(command.state) is State.UNRESOLVED else "clear"
    told = f"left there by command {command.id}, which is {command.state}"
    return f"{told} (first `leasehold engine job {wish} {command.id}`)"
