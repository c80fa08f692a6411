"""One `plan`: inputs, client and arithmetic are put together here, and nothing is decided."""

import asyncio
import random
import sys
from collections.abc import Sequence
from functools import partial

from isal import isal_zlib
from msgspec import Struct

from cdf_upsert.cli.options import TargetFlags
from cdf_upsert.cli.reading import check_stream, input_names
from cdf_upsert.cli.reporting import print_line
from cdf_upsert.cli.wiring import Access, access
from cdf_upsert.core.checking import Checker
from cdf_upsert.core.framing import Format, Frames, Position
from cdf_upsert.core.packing import Packer
from cdf_upsert.core.planning import Bounds, Plan, Surveyor, make_plan
from cdf_upsert.core.quota import TEMPLATES, Quota
from cdf_upsert.core.rates import SAFETY
from cdf_upsert.core.stream import StreamFacts
from cdf_upsert.core.telling_plan import plan_data, plan_text
from cdf_upsert.load.preflight import preflight
from cdf_upsert.sources.reading import Input, open_inputs

REQUESTS_PER_SECOND, REQUESTS_AT_ONCE = 30.0, 15
"""The write budget of one identity (published limits)."""
GZIP_LEVEL = 1
TIMEOUT, PATIENCE = 60.0, 60.0
"""Seconds for one request, and for a service that says "later": a plan is asked for by somebody who waits."""


class PlanOptions(Struct, frozen=True):
    """What the command line asks for; sizes in bytes."""

    stream: str
    inputs: tuple[str, ...]
    target: TargetFlags
    sandbox: bool
    format: Format | None
    batch_records: int
    batch_bytes: int
    max_rate: float | None
    quota: Quota | None
    json: bool


def run_plan(options: PlanOptions) -> int:
    """Read the inputs, ask about the stream, and write the plan to standard output; the exit code.

    Raises:
        LoaderError: an option, an input or the configuration is not usable, or the service refuses.
    """
    check_stream(options.stream)
    names = input_names(options.inputs)
    inputs = open_inputs(names, options.format, options.batch_bytes)
    with access(options.target, sandbox=options.sandbox) as way:
        plan = asyncio.run(_plan(options, way, inputs))
    if options.json:
        import orjson  # noqa: PLC0415  only then

        text = orjson.dumps(plan_data(plan)).decode()
    else:
        text = plan_text(plan)
    if fault := print_line(text):
        _notice(fault)
    return 0


def _notice(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(text + "\n")


async def _plan(options: PlanOptions, way: Access, inputs: Sequence[Input]) -> Plan:
    async with way.client(options.stream, timeout=TIMEOUT, connections=1, patience=PATIENCE) as client:
        facts = await preflight(
            client.stream,
            stream=options.stream,
            explain=way.explain(options.stream),
            notice=lambda text: _notice(way.redactor.clean(text)),
            patience=PATIENCE,
            dice=random.SystemRandom(),
        )
    if facts is None:
        facts = StreamFacts(options.stream, "", mutable=True, records=None, gigabytes=None)
    surveyor = Surveyor(
        Packer(options.batch_records, options.batch_bytes), partial(isal_zlib.compress, level=GZIP_LEVEL)
    )
    read, failed = await _survey(inputs, Checker(options.batch_bytes), surveyor)
    bounds = Bounds(
        quota=options.quota or TEMPLATES.get(facts.template),
        requests_per_second=REQUESTS_PER_SECOND * SAFETY,
        at_once=REQUESTS_AT_ONCE,
        max_rate=options.max_rate,
    )
    return make_plan(options.stream, facts, surveyor.survey(), bounds, read=read, failed=failed)


async def _survey(inputs: Sequence[Input], checker: Checker, surveyor: Surveyor) -> tuple[int, int]:
    """Read everything once; the number of records read, and of those that would fail before being sent."""
    read, failed = 0, 0
    for source in inputs:
        reader = source.open(Position())
        try:
            while (found := await reader.read()) is not None:
                for item in found:
                    if not isinstance(item, Frames):
                        read, failed = read + 1, failed + 1
                        continue
                    checked = checker.check(item, read)
                    read, failed = read + checked.count, failed + len(checked.failed)
                    surveyor.add(checked.records)
        finally:
            await reader.close()
    return read, failed
