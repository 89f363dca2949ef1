"""How asking the API server fails: our own tree, because what matters is what to do next.

::

    ApiError                 what to do
    ├── Unreachable          ask again later: nothing listens, or the connection broke
    │   └── Silent           the same, and nobody said so: it was cut off in silence
    ├── BadAnswer            ask again later: what came was not what an API server says
    └── Refused              it answered, with a status
        ├── Unauthorized     401: read the credentials again
        ├── Forbidden        403: a right is missing, somebody has to grant it
        ├── NotFound         404
        ├── Conflict         409: somebody else wrote; read again
        ├── Gone             410: the past we ask for is forgotten; list again
        ├── TooManyRequests  429: ask again after ``retry_after``
        └── ServerFailure    5xx: the same

No text here quotes what the server sent beyond its own reason: an answer may hold a Secret.
"""

from __future__ import annotations

__all__ = [
    "ApiError",
    "BadAnswer",
    "Conflict",
    "CredentialsError",
    "Forbidden",
    "Gone",
    "NotFound",
    "Refused",
    "ServerFailure",
    "Silent",
    "TooManyRequests",
    "Unauthorized",
    "Unreachable",
    "refusal",
]


class CredentialsError(Exception):
    """There is nothing to log in with: names the file and what was expected in it, never what it holds."""


class ApiError(Exception):
    """Asking the API server failed."""

    @property
    def label(self) -> str:
        """One word for metrics."""
        return type(self).__name__.lower()


class Unreachable(ApiError):
    """No connection, or it broke off."""


class Silent(Unreachable):
    """Nothing was heard for longer than a server that is there stays silent."""


class BadAnswer(ApiError):
    """Not JSON, not the JSON that was asked for, too large, or cut short."""


class Refused(ApiError):
    """An answer with a status that is not success. ``retry_after`` in seconds; 0: not said."""

    def __init__(self, status: int, message: str, retry_after: float = 0.0) -> None:
        super().__init__(f"{status}: {message}" if message else str(status))
        self.status = status
        self.retry_after = retry_after


class Unauthorized(Refused):
    """401."""


class Forbidden(Refused):
    """403."""


class NotFound(Refused):
    """404."""


class Conflict(Refused):
    """409."""


class Gone(Refused):
    """410, as a status or inside a watch."""


class TooManyRequests(Refused):
    """429."""


class ServerFailure(Refused):
    """5xx."""


_BY_STATUS = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    429: TooManyRequests,
}


def refusal(status: int, message: str, retry_after: float = 0.0) -> Refused:
    """The error for a status. ``message``: the server's own sentence, already shortened."""
    kind = _BY_STATUS.get(status, ServerFailure if status >= 500 else Refused)
    return kind(status, message, retry_after)
