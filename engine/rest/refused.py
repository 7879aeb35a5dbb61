"""What HTTP itself refuses, before there is anything that an error of ours could be about."""


class Refused(Exception):
    """status: of HTTP."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
