"""How long to search: a moment with every run of the tests, long when asked (``make fuzz``, DRYCC_FUZZ=long)."""

import os

from hypothesis import HealthCheck, settings

from tests.fakes.story import story

__all__ = ["story"]

# Most heads with dirt on them are refused, and only what is accepted can be compared.
PATIENT = [HealthCheck.too_slow, HealthCheck.filter_too_much]

settings.register_profile(
    "moment", max_examples=100, deadline=None, derandomize=True, database=None, suppress_health_check=PATIENT
)
settings.register_profile("long", max_examples=20_000, deadline=None, suppress_health_check=PATIENT, print_blob=True)
settings.load_profile("long" if os.environ.get("DRYCC_FUZZ") == "long" else "moment")
