"""The engine: reads, orders, packs, sends, interprets, settles. Its shells are handed in (`load.ports`)."""

from cdf_upsert.load.engine import Ending, Engine, outcome_of

__all__ = ["Ending", "Engine", "outcome_of"]
