"""Which replies say that the service has too much to do."""

import pytest

from cdf_upsert.core.interpret import NoReply, Reply
from cdf_upsert.core.traffic import Signal
from cdf_upsert.load.engine import _signal


@pytest.mark.parametrize("status", [202, 400, 401, 403, 404, 409, 413, 422, 500])
def test_what_is_wrong_with_a_request_is_no_overload(status):
    """A batch that is too large, not valid or in conflict slows nothing down; neither does an internal error."""
    assert _signal(Reply(status)) is Signal.CALM


@pytest.mark.parametrize(
    ("reply", "signal"),
    [
        (Reply(429), Signal.THROTTLED),
        (Reply(408), Signal.UNAVAILABLE),
        (Reply(502), Signal.UNAVAILABLE),
        (Reply(503), Signal.UNAVAILABLE),
        (Reply(504), Signal.UNAVAILABLE),
        (NoReply("refused", sent=False), Signal.UNAVAILABLE),
        (NoReply("timed out", sent=True), Signal.UNAVAILABLE),
    ],
)
def test_what_says_later_is_overload(reply, signal):
    """429 is told apart from a service that is not there."""
    assert _signal(reply) is signal
