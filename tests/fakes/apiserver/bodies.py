"""Reading what a client sends and takes: media types, JSON and patches, and the address a document must not contradict.

Nothing is stored or sent here.
"""

from __future__ import annotations

import json
import secrets
from typing import Any

import yaml
from aiohttp import web

from tests.fakes.apiserver.calls import Call
from tests.fakes.apiserver.kinds import NAMESPACES
from tests.fakes.apiserver.patches import APPLY, MERGING
from tests.fakes.apiserver.refusals import Refused, bad_request, invalid
from tests.fakes.apiserver.store import Document

__all__ = ["JSON", "addressed", "negotiate", "read_document", "read_patch"]

JSON = "application/json"
REQUEST_LIMIT = 3 * 1024 * 1024
"""Bytes of a request's body; the real server takes no more either."""


def negotiate(request: web.BaseRequest) -> None:
    """JSON is all there is: whoever takes it besides protobuf or tables gets it ("Alternate representations").

    Raises:
        Refused: 406, the client takes no JSON.
    """
    accepted = [part.split(";")[0].strip() for part in request.headers.get("Accept", "*/*").split(",")]
    if not {JSON, "application/*", "*/*"} & set(accepted):
        raise Refused(406, f"only the following media types are accepted: {JSON}")


async def read_document(request: web.BaseRequest) -> Document:
    """The JSON object in a request's body.

    Raises:
        Refused: 400, 413, 415.
    """
    if request.content_type not in (JSON, "application/octet-stream"):  # the latter: none was said
        raise Refused(415, f"the body of the request was in an unknown format - accepted media types include: {JSON}")
    return _object(await _read_body(request), json.loads)


async def read_patch(request: web.BaseRequest) -> Document:
    if request.content_type not in MERGING:
        listed = ", ".join(sorted(MERGING))
        raise Refused(415, f"the body of the request was in an unknown format - accepted media types include: {listed}")
    return _object(await _read_body(request), yaml.safe_load if request.content_type == APPLY else json.loads)


async def _read_body(request: web.BaseRequest) -> bytes:
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > REQUEST_LIMIT:
            raise Refused(413, f"Request entity too large: limit is {REQUEST_LIMIT}")
    return bytes(body)


def _object(body: bytes, read: Any) -> Document:
    try:
        document = read(body)
    except (ValueError, yaml.YAMLError) as error:
        raise bad_request(f"couldn't get version/kind; json parse error: {type(error).__name__}") from None
    if not isinstance(document, dict) or not isinstance(document.get("metadata", {}), dict):
        raise bad_request("couldn't get version/kind; json parse error: an object is expected")
    return document


def addressed(call: Call, document: Document) -> Document:
    """``document`` with the namespace and name of its address, which it must not contradict.

    Raises:
        Refused: 400, it does; 422, nobody names it.
    """
    kind = call.kind
    said = (document.get("apiVersion", kind.api_version), document.get("kind", kind.name))
    if said != (kind.api_version, kind.name):
        raise bad_request(f"{said[1]} of {said[0]} does not match the expected {kind.name} of {kind.api_version}")
    metadata: Document = dict(document.get("metadata") or {})
    if kind.namespaced:
        if metadata.setdefault("namespace", call.namespace) != call.namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
    elif kind != NAMESPACES:
        metadata.pop("namespace", None)
    if call.name and metadata.setdefault("name", call.name) != call.name:
        raise bad_request(
            f"the name of the object ({metadata['name']}) does not match the name on the URL ({call.name})"
        )
    if not metadata.get("name"):
        if not metadata.get("generateName"):
            raise invalid(kind, "", [("metadata.name", "Required value: name or generateName is required")])
        metadata["name"] = metadata["generateName"] + secrets.token_hex(4)[:5]
    return {**document, "metadata": metadata}
