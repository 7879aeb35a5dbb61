"""Why a helper failed."""


class Failed(Exception):
    """The text is for the user, in one line, and shows no secret."""


class Unsure(Failed):
    """Something of an attach may be left: whoever asked for it must ask for the detach."""
