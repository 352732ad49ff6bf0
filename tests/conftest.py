"""For all tests: hypothesis neither guesses at the machine's speed nor writes into the tree."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

SUPPRESSED = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile("shimyard", deadline=None, database=None, suppress_health_check=SUPPRESSED)
settings.load_profile("shimyard")
