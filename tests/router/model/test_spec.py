"""What was asked for is plain frozen data: it can be compared, and nobody can change it behind another's back."""

import pytest

from drycc_router.model.spec import App, RouterConfig
from drycc_router.translate.annotations.schema import Place, defaults


@pytest.mark.parametrize(("model", "place"), [(App, Place.APP), (RouterConfig, Place.ROUTER)])
def test_models_are_frozen_and_compare_by_what_they_say(model: type[App] | type[RouterConfig], place: Place) -> None:
    one, other = model(**defaults(place)), model(**defaults(place))

    assert one == other
    assert hash(one) == hash(other)
    with pytest.raises(AttributeError):
        one.body_size = 1  # type: ignore[misc]  # that it cannot be done is the point
