"""What is probably wrong with a value that is not in order: a sentence for each common mistake.

Asked only after a grammar has refused a value, so nothing here decides what is accepted. A sentence completes "expected
…" and quotes nothing of the value. The first mistake that is found is told.

What must not enter: what is in order (``values``, ``domains``), keys, Problems.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

__all__ = ["in_list", "in_mapping", "in_name", "in_network", "in_path"]

LOOKED_AT: Final = 1000
"""Characters of a value that are looked at."""

_Mistakes = tuple[tuple[re.Pattern[str], str], ...]

_QUOTED: Final = re.compile(r"[\"'`]")
_BLANK: Final = re.compile(r"\s")
_SCHEME: Final = re.compile(r"\A[A-Za-z][A-Za-z0-9+.-]{0,20}://")

A_NAME: Final = "a name such as www.example.com, *.example.com or shop"
_IN_NAMES: Final[_Mistakes] = (
    (_QUOTED, "a name without quotation marks in the value itself"),
    (_SCHEME, "a name without a scheme: example.com, not https://example.com"),
    (re.compile(r"[~^$\\()|+]"), "a name or *.name: regular expressions are not understood"),
    (re.compile(r"[/?#]"), "a name without a path: example.com, not example.com/path"),
    (re.compile(r":[0-9]*\Z"), "a name without a port: every name is served on the router's ports"),
    (re.compile(r"@"), "a name, not an address for mail"),
    (re.compile(r"\*"), "a star only in place of whole labels at the beginning, once: *.example.com"),
    (re.compile(r"_"), "a name without an underscore: labels have letters, digits and hyphens"),
    (_BLANK, "a name without blanks"),
    (re.compile(r"\A\."), "a name without a dot before it; *.example.com stands for all names below example.com"),
    (re.compile(r"\.\."), "a name without two dots in a row"),
    (re.compile(r"(?:\A|\.)-|-(?:\.|\Z)"), "a name whose labels do not begin or end with a hyphen"),
    (re.compile(r"[^.]{64}"), "a name whose labels have at most 63 characters"),
    (re.compile(r".{254}", re.DOTALL), "a name of at most 253 characters"),
    (re.compile(r"\.[^.]\Z"), "a name whose last label has at least two characters"),
)

A_NETWORK: Final = "an address or network such as 203.0.113.7, 10.0.0.0/8 or 2001:db8::/32"
_IN_NETWORKS: Final[_Mistakes] = (
    (_QUOTED, "an address or network without quotation marks in the value itself"),
    (_SCHEME, "an address or network without a scheme"),
    (re.compile(r"/[0-9]+\.[0-9.]+\Z"), "a prefix length such as /24 after the address, not a netmask"),
    (re.compile(r"\*"), "a network such as 10.0.0.0/8: a star is not understood"),
    (re.compile(r"%"), "an address without a zone"),
    (re.compile(r"\A\[|\A[0-9.]+:[0-9]+\Z"), "an address or network without brackets and without a port"),
    (re.compile(r"[0-9]\s*-\s*[0-9]"), "a network such as 10.0.0.0/8: ranges are not understood"),
    (re.compile(r"/(?:129|1[3-9][0-9]|[2-9][0-9]{2}|[0-9]{4,})\Z"), "a prefix length of at most 32, or 128 of IPv6"),
    (re.compile(r"\A[0-9.]+/(?:3[3-9]|[4-9][0-9]|[0-9]{3,})\Z"), "a prefix length of at most 32 after an IPv4 address"),
    (re.compile(r"(?:\A|\.)0[0-9]"), "an address whose numbers have no leading zeros"),
    (re.compile(r"[g-zG-Z]"), "an address or network: names are not looked up"),
)

A_PATH: Final = "a path such as /api or /shop/cart, without query, empty segments and dot segments"
_IN_PATHS: Final[_Mistakes] = (
    (_QUOTED, "a path without quotation marks in the value itself"),
    (_SCHEME, "a path such as /api, without scheme and name"),
    (
        re.compile(r"\A[~=]|\^|\$\Z|\\"),
        "a path such as /api (patterns and modifiers of the ancestors are not understood)",
    ),
    (re.compile(r"\*"), "a path without a star: /api stands for everything below /api"),
    (re.compile(r"\A(?!/)"), "a path such as /api, which begins with a slash"),
    (re.compile(r"[?#]"), "a path such as /api, without query and fragment"),
    (_BLANK, "a path without blanks"),
    (re.compile(r"//"), "a path without empty segments: no two slashes in a row"),
    (re.compile(r"/(?:\.|%2[eE]){1,2}(?:/|\Z)"), "a path without the segments '.' and '..'"),
    (re.compile(r"%(?![0-9A-Fa-f]{2})"), "two hexadecimal digits after each % of a path"),
    (re.compile(r".{1025}", re.DOTALL), "a path of at most 1024 characters"),
    (re.compile(r"[^\x21-\x7e]"), "a path in ASCII: other characters are percent-encoded, in UTF-8"),
)

A_MAPPING: Final = "a mapping domain:name, such as www.example.com:www"
_IN_MAPPINGS: Final[_Mistakes] = (
    (_QUOTED, "a mapping domain:name without quotation marks in the value itself"),
    (_SCHEME, "a mapping domain:name without a scheme: example.com:www"),
    (re.compile(r":.*:", re.DOTALL), "a mapping domain:name with one colon, and no port"),
    (re.compile(r"="), "a mapping domain:name with a colon, not with '='"),
    (re.compile(r":[^:]*/"), "a mapping domain:name to a Secret of the Service's own namespace, without a namespace"),
    (re.compile(r":[^:]*[A-Z_]"), "the name of a Secret: lower-case letters, digits, '-' and '.'"),
    (re.compile(r":\s*\Z"), "the name of a Secret after the colon"),
    (re.compile(r"\A[^:]*\Z"), A_MAPPING),
)

_SEPARATORS: Final = {";": "semicolons", ",": "commas", " ": "blanks", ":": "colons"}


def in_name(text: str) -> str:
    """What is wrong with a written name."""
    return _first(_IN_NAMES, text) or A_NAME


def in_network(text: str) -> str:
    """What is wrong with a written address or network."""
    return _first(_IN_NETWORKS, text) or A_NETWORK


def in_path(text: str) -> str:
    """What is wrong with a written path."""
    return _first(_IN_PATHS, text) or A_PATH


def in_mapping(text: str) -> str:
    """What is wrong with a written ``domain:name`` as a whole; "": one of its parts is not in order."""
    return _first(_IN_MAPPINGS, text)


def in_list(separator: str, element: str, is_good: Callable[[str], bool]) -> str:
    """Whether an element that was refused is several, separated by something else than ``separator``; "" if not.

    ``is_good``: whether one element is in order; it is asked about two of them at most.
    """
    looked_at = element[:LOOKED_AT]
    for other, word in _SEPARATORS.items():
        # A colon joins the two halves of a mapping, and is part of IPv6: it separates nothing but words.
        if other == separator or (other == ":" and separator == ","):
            continue
        parts = looked_at.split() if other == " " else [part.strip() for part in looked_at.split(other)]
        if len(parts) > 1 and any(is_good(part) for part in parts[:2] if part):
            return f"{_SEPARATORS[separator]} between the elements, not {word}"
    return ""


def _first(mistakes: _Mistakes, text: str) -> str:
    looked_at = text[: LOOKED_AT + 100]
    return next((sentence for pattern, sentence in mistakes if pattern.search(looked_at)), "")
