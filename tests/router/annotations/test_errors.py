"""How a grammar says no."""

from router.annotations.errors import Unfit
from router.problems import Reason


def test_it_says_what_was_expected_and_perhaps_why() -> None:
    assert str(Unfit("a size")) == "expected a size"
    assert Unfit("a size").reason is None
    assert Unfit("a name", Reason.REFUSED_DOMAIN).reason is Reason.REFUSED_DOMAIN
