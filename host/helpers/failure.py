"""Why a helper failed."""


class Failed(Exception):
    """The text is for the user, in one line, and shows no secret."""
