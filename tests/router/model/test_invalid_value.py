"""How a grammar says no."""

from drycc_router.model.invalid_value import Unfit
from drycc_router.model.problems import Reason


def test_it_says_what_was_expected_and_perhaps_why() -> None:
    assert str(Unfit("a size")) == "expected a size"
    assert Unfit("a size").reason is None
    assert Unfit("a name", Reason.REFUSED_DOMAIN).reason is Reason.REFUSED_DOMAIN
