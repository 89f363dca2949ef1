"""How the API server says no: one exception, and the ``Status`` document the API conventions give it.

Only words here: who refuses, and when, is the business of the others.
"""

from __future__ import annotations

import json
from typing import Any

from tests.fakes.apiserver.kinds import Kind

__all__ = [
    "Refused",
    "already_exists",
    "bad_request",
    "conflict",
    "expired",
    "forbidden",
    "from_the_future",
    "invalid",
    "not_found",
    "status_reason",
]

_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    409: "Conflict",
    410: "Expired",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


def status_reason(code: int) -> str:
    """The machine name that goes with an HTTP status ("Response Status Kind" of the API conventions)."""
    return _REASONS.get(code, "Unknown")


class Refused(Exception):
    """A request the server does not carry out; ``document`` is the body of the answer, a ``Status``. ``reason``: None
    where the real server gives none."""

    def __init__(
        self,
        code: int,
        message: str,
        *,
        reason: str | None = "",
        details: dict[str, Any] | None = None,
        next_page: str = "",
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after
        details = dict(details or {})
        if retry_after is not None:
            details["retryAfterSeconds"] = retry_after
        self.document: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {"continue": next_page} if next_page else {},
            "status": "Failure",
            "message": message,
            **({} if reason is None else {"reason": reason or status_reason(code)}),
            **({"details": details} if details else {}),
            "code": code,
        }

    @property
    def body(self) -> bytes:
        return json.dumps(self.document, separators=(",", ":")).encode()


def bad_request(message: str) -> Refused:
    return Refused(400, message)


def forbidden(user: str, verb: str, kind: Kind, namespace: str, name: str, resource: str = "") -> Refused:
    """403 in the words of the RBAC authorizer. ``resource``: with its subresource."""
    subject = f'{kind.qualified} "{name}"' if name else kind.qualified
    scope = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
    tried = f'{verb} resource "{resource or kind.plural}" in API group "{kind.group}" {scope}'
    return Refused(403, f'{subject} is forbidden: User "{user}" cannot {tried}', details=_details(kind, name))


def not_found(kind: Kind, name: str) -> Refused:
    return Refused(404, f'{kind.qualified} "{name}" not found', details=_details(kind, name))


def already_exists(kind: Kind, name: str) -> Refused:
    return Refused(
        409, f'{kind.qualified} "{name}" already exists', reason="AlreadyExists", details=_details(kind, name)
    )


def conflict(kind: Kind, name: str, why: str = "") -> Refused:
    """409: the writer read an older state than the one that is stored ("Concurrency control and consistency")."""
    why = why or "the object has been modified; please apply your changes to the latest version and try again"
    message = f'Operation cannot be fulfilled on {kind.qualified} "{name}": {why}'
    return Refused(409, message, details=_details(kind, name))


def expired(message: str, next_page: str = "") -> Refused:
    """410: the state asked for is compacted away; the client has to list again ("410 Gone responses")."""
    return Refused(410, message, next_page=next_page)


def from_the_future(version: str, current: int) -> Refused:
    """504: a version that has not been yet; the real server has waited for it for three seconds by then."""
    causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
    message = f"Timeout: Too large resource version: {version}, current: {current}"
    return Refused(504, message, details={"causes": causes}, retry_after=1)


def invalid(kind: Kind, name: str, faults: list[tuple[str, str]], called: str = "") -> Refused:
    """422: the object is well-formed and not acceptable; ``faults`` are pairs of field and complaint. ``called``: the
    kind, where the real server does not give its name."""
    said = [f"{field}: {complaint}" for field, complaint in faults]
    listed = said[0] if len(said) == 1 else f"[{', '.join(said)}]"
    details = _details(kind, name)
    details["causes"] = [
        {"reason": "FieldValueInvalid", "message": complaint, "field": field} for field, complaint in faults
    ]
    qualified = called or (f"{kind.name}.{kind.group}" if kind.group else kind.name)
    return Refused(422, f'{qualified} "{name}" is invalid: {listed}', details=details)


def _details(kind: Kind, name: str) -> dict[str, Any]:
    details: dict[str, Any] = {"name": name} if name else {}
    if kind.group:
        details["group"] = kind.group
    return {**details, "kind": kind.plural}
