"""The committed reference is the table's."""

from pathlib import Path

from router.annotations.fields import FIELDS
from router.annotations.reference import page

COMMITTED = Path(__file__).parents[3] / "docs" / "annotations.md"


def test_the_committed_page_is_what_the_table_says() -> None:
    assert COMMITTED.read_text(encoding="utf-8") == page(), (
        "python -m router.annotations.reference > docs/annotations.md"
    )


def test_every_key_has_its_row() -> None:
    lines = page().splitlines()

    for field in FIELDS:
        rows = [line for line in lines if line.startswith(f"| `{field.key}`") and field.help in line]
        assert rows, field.key
