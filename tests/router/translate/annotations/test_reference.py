"""The committed reference is the table's."""

from pathlib import Path

from drycc_router.translate.annotations.reference import page
from drycc_router.translate.annotations.schema import FIELDS

COMMITTED = Path(__file__).parents[4] / "docs" / "annotations.md"


def test_the_committed_page_is_what_the_table_says() -> None:
    assert COMMITTED.read_text(encoding="utf-8") == page(), (
        "python -m drycc_router.translate.annotations.reference > docs/annotations.md"
    )


def test_every_key_has_its_row() -> None:
    lines = page().splitlines()

    for field in FIELDS:
        rows = [line for line in lines if line.startswith(f"| `{field.key}`") and field.help in line]
        assert rows, field.key
