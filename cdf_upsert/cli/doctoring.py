"""One run of `doctor`: each check as it is done, for people or as JSON."""

import asyncio
import json
import sys
import time

from cdf_upsert.cli.options import TargetFlags
from cdf_upsert.cli.wiring import Access, WallClock, access
from cdf_upsert.core import checkup
from cdf_upsert.core.checkup import Check, Mark
from cdf_upsert.core.redact import Redactor
from cdf_upsert.doctor import Doctor, report
from cdf_upsert.errors import LoaderError, UsageError
from cdf_upsert.network import Connections

_PROVIDER_PATIENCE = 0.0
"""Seconds: who asks what is wrong does not want to wait until it may be right."""


def run_doctor(flags: TargetFlags, stream: str | None, *, sandbox: bool, as_json: bool) -> int:
    """Examine, tell, and return the exit code."""
    checks: list[Check] = []
    redactor = Redactor()
    try:
        with access(flags, sandbox=sandbox) as way:
            redactor = way.redactor
            asyncio.run(_examine(way, stream, checks, show=not as_json))
    except UsageError as error:
        found = checkup.not_usable(str(error), configured=bool(checks))
        checks += found
        if not as_json:
            for check in found:
                sys.stdout.write(redactor.clean(_lines(check)))
    if as_json:
        sys.stdout.write(redactor.clean(json.dumps(report(checks), ensure_ascii=False)) + "\n")
    return checkup.exit_code(checks)


async def _examine(way: Access, stream: str | None, checks: list[Check], *, show: bool) -> None:
    connections = Connections(way.settings.network, time.time)
    try:
        tokens = way.tokens(_PROVIDER_PATIENCE)
    except LoaderError as error:
        checks.append(checkup.token_missing(str(error), error.exit_code))
        if show:
            sys.stdout.write(way.redactor.clean(_lines(checks[-1])))
        return
    async for check in Doctor(way.settings, tokens, connections, WallClock(), stream).examine():
        checks.append(check)
        if show:
            sys.stdout.write(way.redactor.clean(_lines(check)))
            sys.stdout.flush()


def _lines(check: Check) -> str:
    mark = check.mark.value.upper() if check.mark is Mark.FAILED else check.mark.value
    head = f"{mark:<8} {check.name:<14} "
    indented = check.sentence.replace("\n", "\n" + " " * len(head))
    return f"{head}{indented}\n" + (f"{' ' * len(head)}{check.mend}\n" if check.mend else "")
