"""A batch is true when it says something."""

from __future__ import annotations

from drycc_router.model.objects import Change, ObjectKey
from drycc_router.sources.batch import Batch


def test_a_batch_is_true_when_it_says_something() -> None:
    assert not Batch()
    assert Batch(changes=(Change(ObjectKey("Service", "a", "b"), None),))
    assert Batch(problems={"file:a.yaml": ()})  # "nothing is wrong with it any more" is news
