"""What holds for all tests."""

from hypothesis import settings

# How long one case takes depends on the machine and on what else it does; no law is about that.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
