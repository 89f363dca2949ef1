"""Stories are told with one fixture."""

from tests.fakes.story import story

__all__ = ["story"]
