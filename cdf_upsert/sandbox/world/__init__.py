"""What the sandbox remembers and the rules that hold for it: no socket, no clock, no dice.

Every method of `World` takes `now` (milliseconds since 1970) and raises `Refusal` for what CDF would refuse.
Queries are generators: each step is short, so that whoever runs one may do other things in between.
"""

from cdf_upsert.sandbox.world.reading import Steps
from cdf_upsert.sandbox.world.refusal import Refusal
from cdf_upsert.sandbox.world.world import Operation, World

__all__ = ["Operation", "Refusal", "Steps", "World"]
