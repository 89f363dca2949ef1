"""The written word agrees with the code: generated pages, verbs, links, names, and what must not be written at all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs import values_schema
from docs.generate import PAGES
from drycc_proxy.errors import Failure
from drycc_proxy.telemetry.access_log import FORMATS
from tests.stories.test_hostile import REFUSED

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES_OF_PROSE = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md"), *ROOT.glob("*/README.md")])

FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")


def prose(page: Path) -> str:
    """The text of a page without its fenced blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """The anchors a page offers: its headings, in the spelling that forges and editors agree on."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def relative_links(page: Path) -> Iterator[str]:
    for found in LINK.finditer(prose(page)):
        target = found[1] or found[2]
        if not target.startswith(("http://", "https://", "mailto:")):
            yield target


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_the_one_that_is_committed(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), "run `make docs`"


def test_the_charts_schema_of_annotations_is_the_one_that_the_grammars_make() -> None:
    assert values_schema.SCHEMA.read_text(encoding="utf-8") == values_schema.page(), "run `make docs`"


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_shows_no_value_as_python_writes_it(name: str) -> None:
    """Defaults and limits are shown as a user writes them."""
    shown = re.findall(r"`([^`\n]*)`", PAGES[name]())
    assert not [text for text in shown if re.search(r"^(?:None|True|False)$|^\(.*\)$|^\w*Path\(|^<.*>$", text)]


@pytest.mark.parametrize("page", PAGES_OF_PROSE, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in relative_links(page):
        path, _, anchor = target.partition("#")
        goal = (page.parent / path).resolve() if path else page
        assert goal.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(goal), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES_OF_PROSE, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_module_that_prose_names_exists(page: Path) -> None:
    for name in re.findall(r"`((?:router|proxy|tls|examples|benchmarks|tests)/[\w/.]*)`", prose(page)):
        assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_the_verbs_that_readme_and_contributing_name_are_in_the_makefile() -> None:
    verbs = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for name in ("README.md", "CONTRIBUTING.md"):
        written = set(re.findall(r"\bmake ([a-z]+)\b", (ROOT / name).read_text(encoding="utf-8")))
        assert written, f"{name} names no verb at all"
        assert written <= verbs, f"{name}: {sorted(written - verbs)}"


def test_every_failure_has_its_row_in_troubleshooting() -> None:
    wanted = {failure.value for failure in Failure}
    assert rows("operations.md", "Troubleshooting by X-Router-Error") - {"X"} == wanted


def test_every_refusal_that_is_told_in_a_story_stands_in_the_page_about_http() -> None:
    written = set(re.findall(r"`(\w+)`", (DOCS / "http.md").read_text(encoding="utf-8")))
    assert {failure for _, failure, _ in REFUSED.values()} <= written
    assert {failure.value for failure in Failure} >= {
        name for name in written if name.startswith(("bad_", "response_"))
    }


def rows(page: str, heading: str) -> set[str]:
    """The names in the first column of the tables under a heading."""
    section = (DOCS / page).read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    cells = re.findall(r"^\| ([^|]*) \|", section, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(\w+)[^`]*`", cell)}


def test_every_field_of_the_log_is_explained() -> None:
    source = (ROOT / "proxy" / "drycc_proxy" / "telemetry" / "access_log.py").read_text(encoding="utf-8")
    assert rows("operations.md", "Access log") == set(re.findall(r'"(\w+)":', source)) - set(FORMATS)


def test_every_metric_is_explained() -> None:
    source = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "router" / "drycc_router" / "admin").glob("*.py")
    )
    told = {name.removesuffix("_total") for name in rows("operations.md", "Metrics") if name.startswith("router_")}
    assert told == set(re.findall(r'"(router_\w+)"', source))


SYNONYMS = {"backend": "Upstream or Endpoint", "tenant": "App or its owner", "vhost": "Route", "hot swap": "Publish"}
"""Words of the glossary's "not" column that have no second meaning here, so that a machine can look for them."""


@pytest.mark.parametrize("page", PAGES_OF_PROSE, ids=lambda page: str(page.relative_to(ROOT)))
def test_prose_keeps_to_the_glossary(page: Path) -> None:
    if page.name == "glossary.md":
        assert all(word in prose(page) for word in SYNONYMS), "the glossary no longer forbids one of these words"
        return
    for word, better in SYNONYMS.items():
        assert not re.search(rf"\b{word}s?\b", prose(page), re.IGNORECASE), f"{page.name}: {word!r}; say {better}"


LOCAL = re.compile(r"(?<![\w.])/(?:root|work|home/\w+|Users/\w+|opt/(?:pypi|wheels))\b|file://|extra-index-url")


def test_nothing_of_one_machine_is_written_down() -> None:
    """Locks, docs and settings hold on every machine: no home directory, no index that only one place can reach."""
    files = [*PAGES_OF_PROSE, *ROOT.glob("requirements*.lock"), ROOT / "pyproject.toml", ROOT / "Makefile"]
    for path in [*files, ROOT / ".ci" / "run"]:
        assert LOCAL.findall(path.read_text(encoding="utf-8")) == [], path.name
