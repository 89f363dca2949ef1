"""Write the pages of ``docs/`` that are made from code, and the chart's schema of annotations, so that they cannot say
anything else than the code does.

Run as ``make docs``; a test fails where a committed page differs from what is made here. What must not enter: prose
that is not about one row of a table in the code. Such prose has its own page, written by hand.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import yaml

from docs import values_schema
from drycc_proxy.errors import Failure, Retry, Side, status_for
from drycc_proxy.http.deadlines import DEADLINES
from drycc_router.model.problems import Reason, Severity
from drycc_router.settings import FIELDS
from drycc_router.translate.annotations import reference

ERRORS_INTRODUCTION: Final = """\
<!-- Made by `make docs` from proxy/drycc_proxy/errors.py. Edit that, not this. -->

# Errors the router answers with

Every answer that comes from the router and not from an app carries its machine name in the response header
`X-Router-Error`. The same word stands in the access log (`error_reason`) and in the metric
`router_errors_total{app,reason}`. An error answer without that header
came from the app itself.

What to do about each: [Troubleshooting](operations.md#troubleshooting-by-x-router-error).
"""

ERRORS_FOOTNOTE: Final = """
—: the head of the app's answer was already on its way, or nobody was left to read one; the connection is broken off,
and only the log and the metric can tell.
"""

SIDES: Final[Mapping[Side, str]] = {
    Side.CLIENT: "The client's doing: the request, or the way it was sent",
    Side.POLICY: "Routing and policy: what the app's owner or the operator said",
    Side.UPSTREAM: "The app's doing: it did not answer as it should",
    Side.ROUTER: "The router's own state",
}

RETRIES: Final[Mapping[Retry, str]] = {
    Retry.NEVER: "no",
    Retry.ANOTHER_ENDPOINT: "on another endpoint",
    Retry.IF_REUSED: "if the connection was a reused one and the request may be repeated",
}


def errors_page() -> str:
    """Return ``docs/errors.md``: one table per side, in the order of ``errors.Failure``."""
    parts = [ERRORS_INTRODUCTION]
    for side, heading in SIDES.items():
        parts.append(f"\n## {heading}\n")
        parts.append("\n| `X-Router-Error` | status | what the client reads | tried again |\n|---|--:|---|---|\n")
        parts += (
            f"| `{failure.value}` | {_statuses(failure)} | {failure.sentence} | {RETRIES[failure.retry]} |\n"
            for failure in Failure
            if failure.side is side
        )
    return "".join([*parts, ERRORS_FOOTNOTE])


def _statuses(failure: Failure) -> str:
    """The status, or each with the methods that are answered with it."""
    by_method = {method: status_for(failure, method.encode()) for method in ("GET", "HEAD", "POST")}
    if len(set(by_method.values())) == 1:
        return str(failure.status or "—")
    special = [method for method, status in by_method.items() if status != failure.status]
    return f"{by_method[special[0]]} for {' and '.join(special)}, else {failure.status}"


DEADLINES_INTRODUCTION: Final = """\
<!-- Made by `make docs` from proxy/drycc_proxy/http/deadlines.py. Edit that, not this. -->

# Deadlines

Every state in which a connection can be has an end. The table has them in the order in which a connection meets them;
it holds over TLS as in clear text. A deadline is noticed within two tenths of a second, on a clock that never goes
back: setting the machine's time changes none of them. Where the last column names a failure, the access log and
`router_errors_total` have it too.

| while | at most | counted from | then | `X-Router-Error` |
|---|---|---|---|---|
"""


def deadlines_page() -> str:
    """Return ``docs/deadlines.md``: one row per state, in the order of ``http.deadlines.DEADLINES``."""
    parts = [DEADLINES_INTRODUCTION]
    for row in DEADLINES:
        failure = f"`{row.failure.value}`" if row.failure else ""
        parts.append(f"| {row.state} | {row.limit} | {row.since} | {row.then} | {failure} |\n")
    return "".join(parts)


PROBLEMS_INTRODUCTION: Final = """\
<!-- Made by `make docs` from router/drycc_router/model/problems.py. Edit that, not this. -->

# Problems

A Problem is something an owner or operator wrote that the router could not honour. It never stops anything: the app it
concerns keeps what was good, or the default, and every other app is untouched. Each names the object, the key, the
value (shortened) and what was expected; all current ones are printed by `drycc-router check`, served at `/problems`,
and counted by reason in the metric `router_route_invalid`. In a cluster it is an Event on the object, too, whose reason
is the name in the other spelling: `bad_value` is `BadValue`.
"""

SEVERITIES: Final[Mapping[Severity, str]] = {
    Severity.PROBLEM: "## Something to mend\n\n`drycc-router check` exits with 1 while there is one.\n",
    Severity.NOTE: "## Something to know\n\nNotes are listed; they do not change the exit status of `check`.\n",
}


def problems_page() -> str:
    """Return ``docs/problems.md``: one table per severity, in the order of ``model.problems.Reason``."""
    parts = [PROBLEMS_INTRODUCTION]
    for severity, heading in SEVERITIES.items():
        parts.append(f"\n{heading}\n| reason | meaning | what to do |\n|---|---|---|\n")
        parts += (
            f"| `{reason.value}` | {reason.sentence} | {reason.remedy} |\n"
            for reason in Reason
            if reason.severity is severity
        )
    return "".join(parts)


SETTINGS_INTRODUCTION: Final = """\
<!-- Made by `make docs` from router/drycc_router/settings.py. Edit that, not this. -->

# Process settings

Flags of `drycc-router run`, each also by environment; the flag wins. They hold from start to end. What may change while
traffic flows is an annotation on the router's own Deployment instead: [annotations](annotations.md). Without a default
a setting is off, or its description says what holds.

| flag | environment | default | what it does | expected |
|---|---|---|---|---|
"""


def settings_page() -> str:
    """Return ``docs/settings.md``: one row per flag, in the order of ``--help``."""
    parts = [SETTINGS_INTRODUCTION]
    for field in FIELDS:
        variables = ", ".join(f"`{name}`" for name in field.variables)
        default = "" if field.default is None else f"`{field.default}`"
        parts.append(f"| `{field.flag}` | {variables} | {default} | {field.help} | {field.expected} |\n")
    return "".join(parts)


ALERTS_INTRODUCTION: Final = """\
<!-- Made by `make docs` from charts/router/files/rules.yaml. Edit that, not this. -->

# Alerts

The chart installs these with `prometheusRule.enabled`; without the Prometheus operator, load
`charts/router/files/rules.yaml` as it is. Scrape with `honor_labels: true`. `critical` is for whoever is on call, at
any hour; `warning` waits for the morning; `info` is for the owner of an app. Rules that compare replicas do so within
one job and namespace. Tests bring a router into each state and let Prometheus evaluate the rule.
"""

RULES: Final = Path(__file__).parents[1] / "charts" / "router" / "files" / "rules.yaml"


def alerts_page() -> str:
    """Return ``docs/alerts.md``: one section per rule, in the order of the chart's file."""
    parts = [ALERTS_INTRODUCTION]
    for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]:
        for rule in group["rules"]:
            notes, lasts = rule["annotations"], f" for {rule['for']}" if "for" in rule else ""
            summary = re.sub(r"\{\{ \$labels\.(\w+) \}\}", r"*\1*", notes["summary"])
            summary = re.sub(r"\{\{ \$value.*?\}\}", "*N*", summary)
            parts.append(f"\n## {rule['alert']}\n\n`{rule['labels']['severity']}`: {summary}\n\n")
            parts.append(f"{notes['description']}\n\n```promql\n{rule['expr']}\n```\n")
            if lasts:
                parts.append(f"\nThe alert fires when this holds{lasts}.\n")
    return "".join(parts)


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "alerts.md": alerts_page,
    "annotations.md": reference.page,
    "deadlines.md": deadlines_page,
    "errors.md": errors_page,
    "problems.md": problems_page,
    "settings.md": settings_page,
}
"""File name under ``docs/`` → what it must hold."""


def main() -> int:
    """Write every page whose text changed; name each on standard error."""
    pages = {Path(__file__).with_name(name): page for name, page in PAGES.items()}
    for path, page in {**pages, values_schema.SCHEMA: values_schema.page}.items():
        text = page()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            sys.stderr.write(f"{path}: written\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
