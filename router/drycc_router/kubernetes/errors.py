"""How asking the API server fails: our own tree, because what matters is what to do next.

::

    ApiError                 what to do
    ├── Unreachable          ask again later: nothing listens, or the connection broke
    │   ├── Silent           the same, and nobody said so: it was cut off in silence
    │   └── Untrusted        the same, after the authority was read again: its certificate does not verify
    ├── BadAnswer            ask again later: what came was not what an API server says
    ├── Unexpected           ask again later: an exception that nothing here foresees, so a fault of the router
    └── Refused              it answered, with a status
        ├── Unauthorized     401: read the credentials again
        ├── Forbidden        403: a right is missing, somebody has to grant it
        ├── NotFound         404
        ├── Conflict         409: somebody else wrote; read again
        ├── Gone             410: the past we ask for is forgotten; list again
        ├── TooManyRequests  429: ask again after ``retry_after``
        └── ServerFailure    5xx: the same
            └── FutureVersion  504, the version is newer than what the server knows: ask again, then list again

No text here quotes what the server sent beyond its own reason: an answer may hold a Secret.
"""

from __future__ import annotations

__all__ = [
    "ApiError",
    "BadAnswer",
    "Conflict",
    "CredentialsError",
    "Forbidden",
    "FutureVersion",
    "Gone",
    "NotFound",
    "Refused",
    "ServerFailure",
    "Silent",
    "TooManyRequests",
    "Unauthorized",
    "Unexpected",
    "Unreachable",
    "Untrusted",
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


class Untrusted(Unreachable):
    """The server presents a certificate that the authority we were given did not issue, or that names another host."""


class Unexpected(ApiError):
    """An exception that no other error stands for. It is never an answer: who asked does not know more than before."""


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


class FutureVersion(ServerFailure):
    """504 with the cause ``ResourceVersionTooLarge``, as a status or inside a watch: the server has not seen the
    version that we ask from. It lags behind etcd (an etcd before 3.4.25 does not tell it how far it is), or was
    restored from a backup, and then that version never comes."""


_BY_STATUS = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    429: TooManyRequests,
}


def refusal(status: int, message: str, retry_after: float = 0.0, *, is_future: bool = False) -> Refused:
    """The error for a status. ``message``: the server's own sentence, already shortened. ``is_future``: it gives a
    version from the future as the cause."""
    if is_future:
        return FutureVersion(status, message, retry_after)
    kind = _BY_STATUS.get(status, ServerFailure if status >= 500 else Refused)
    return kind(status, message, retry_after)
