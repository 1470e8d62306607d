"""What the studio refuses, with the HTTP status and the words that say why."""

from counterpoint.errors import CounterpointError


class Refused(CounterpointError):
    """A request that cannot be carried out as it came."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status
        self.words = words


class Full(Refused):
    """The queue has no room; later it will."""

    def __init__(self, words: str) -> None:
        super().__init__(503, words)
