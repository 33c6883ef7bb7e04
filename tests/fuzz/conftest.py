"""Bounded and the same each time: what fails here fails everywhere."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "autofit",
    max_examples=60,
    derandomize=True,
    deadline=None,  # a wall clock fails where others compute: `clean` looks at the CPU's
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("autofit")
