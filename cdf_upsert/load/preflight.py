"""Before the first record is sent: does the stream exist, is it mutable, has it room."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import assert_never

from cdf_upsert.core.interpret import NoReply, Reply
from cdf_upsert.core.retrying import Dice, backoff
from cdf_upsert.core.stream import Limit, StreamFacts
from cdf_upsert.errors import RefusedError, UnavailableError, UsageError

UNREACHABLE_TRIES = 4
"""A service that was never reached is more likely misspelt than down: a few seconds, not the whole patience."""

Ask = Callable[[], Awaitable[StreamFacts | Reply | NoReply]]


async def preflight(
    ask: Ask,
    *,
    stream: str,
    explain: Callable[[int, str], str],
    notice: Callable[[str], None],
    patience: float,
    dice: Dice,
) -> StreamFacts | None:
    """What is known of the stream that is loaded into; None when this identity may not look at it.

    Raises:
        UsageError: the service cannot be reached.
        RefusedError: it refuses, knows no such stream, or the stream takes no records.
        UnavailableError: it said "later" for `patience` seconds.
    """
    retry_after: float | None
    loop = asyncio.get_running_loop()
    give_up = loop.time() + patience
    tries = 0
    while True:
        answer = await ask()
        tries += 1
        match answer:
            case StreamFacts():
                _refuse_if_unfit(answer, stream, explain)
                return answer
            case NoReply(message, sent):
                if not sent and tries >= UNREACHABLE_TRIES:
                    raise UsageError(f"{message}.")
                why, retry_after = message.rstrip("."), None
            case Reply(status=403):
                # Writing needs no permission to read streams, so only the first batch can tell.
                return None
            case Reply(status=status) if status in {408, 429} or status >= 500:
                why, retry_after = f"the service answered {status}", answer.retry_after
            case Reply(status=status, body=body):
                raise RefusedError(explain(status, _message(body)), unclear=True)
            case _:
                assert_never(answer)
        seconds = backoff(tries, retry_after, dice)
        if loop.time() + seconds > give_up:
            raise UnavailableError(f"Nothing could be sent within --patience: {why}. Rerun to try again.")
        notice(f"The stream cannot be looked at yet, next try in {seconds:.1f} s: {why}.")
        await asyncio.sleep(seconds)


def _refuse_if_unfit(facts: StreamFacts, stream: str, explain: Callable[[int, str], str]) -> None:
    if not facts.mutable:
        raise RefusedError(explain(422, ""))
    for limit, unit in ((facts.records, "records"), (facts.gigabytes, "GB")):
        if limit is not None and _full(limit):
            raise RefusedError(
                f"Stream {stream} is full: it holds {limit.consumed:,.12g} of {limit.provisioned:,.12g} {unit}. "
                "Delete records from it, or load into another stream."
            )


def _full(limit: Limit) -> bool:
    return limit.consumed is not None and limit.consumed >= limit.provisioned > 0


def _message(body: bytes) -> str:
    """The message of an error reply, as far as it has one."""
    import msgspec  # noqa: PLC0415  only for a refusal

    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    match content:
        case {"error": {"message": str(message)}}:
            return " ".join(message.split())[:500]
        case _:
            return ""
