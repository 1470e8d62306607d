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


def is_for_people(path: str, accepted: str) -> bool:
    """Whether a refusal is read by somebody in a browser: then it is a page, and JSON otherwise.

    Args:
        path: Of the request; what programs ask stays JSON in a browser too.
        accepted: Its Accept header. Scripts and pictures of pages accept anything, which is no wish for a page.
    """
    return not path.startswith("/api/") and "text/html" in accepted.lower()
