"""What the end of a tool means: its status and last words as a named error."""

from protocol.errors import (
    ConnectionLost,
    ImageInUse,
    InputOutputError,
    NoSpaceLeft,
    ToolFailed,
    ToolKilled,
)

# The words of strerror(3) in the C locale, and of libnbd and QEMU where those have their own.
_CLASSES: tuple[tuple[type[ToolFailed], tuple[str, ...]], ...] = (
    (NoSpaceLeft, ("No space left on device", "Disk quota exceeded")),
    (ImageInUse, ("Is another process using the image",)),
    (
        ConnectionLost,
        (
            "Connection refused",
            "Connection reset",
            "Connection timed out",
            "Broken pipe",
            "Transport endpoint is not connected",
            "Unexpected end-of-file",
            "server disconnected unexpectedly",
            "connection is not in a connected state",  # libnbd, with EINVAL
            "the handle must be connected with the server",
            "Cannot send after transport endpoint shutdown",
        ),
    ),
    (InputOutputError, ("Input/output error",)),
)


def tool_error(tool: str, status: int, detail: str) -> ToolFailed:
    """The error for a tool that ended with `status` (minus a signal, or its exit status) after
    it wrote `detail` to standard error."""
    if status < 0:
        return ToolKilled(tool, status, detail, -status)
    for error, phrases in _CLASSES:
        if any(phrase in detail for phrase in phrases):
            return error(tool, status, detail)
    return ToolFailed(tool, status, detail)
