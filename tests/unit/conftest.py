"""How generated examples are drawn: by reason, not by the clock."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "rabbitproof",
    deadline=None,  # a busy machine is no failure; pytest-timeout ends what hangs
    # In a fresh checkout the first example waits a second for Unicode's tables to be built.
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("rabbitproof")
