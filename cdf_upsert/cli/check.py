"""`cdf-upsert check`: flags to options."""

from pathlib import Path
from typing import Annotated

import typer

from cdf_upsert.cli import options as o
from cdf_upsert.core.showing import LogFormat, Progress


def check(
    inputs: o.Inputs = None,
    *,
    format_: o.FormatOption = o.FormatChoice.auto,
    batch_records: o.BatchRecords = 1000,
    batch_bytes: o.BatchBytes = 10_000_000,
    failed: Annotated[
        Path | None, o.option("failed", "Write the failed records to this file.", metavar="FILE")
    ] = None,
    report: Annotated[
        Path | None, o.option("report", "Write the report to this file.", metavar="FILE")
    ] = None,
    progress: o.ProgressOption = Progress.AUTO,
    json: o.Json = False,
    log_format: o.LogFormatOption = LogFormat.TEXT,
    quiet: o.Quiet = False,
    verbose: Annotated[bool, o.option("verbose", "Tell of each input that is opened.", "-v")] = False,
) -> None:
    """Read and check records; send nothing.

    Exit code 3 when some would fail, 0 when all are fit to be sent.
    """
    from cdf_upsert.cli.checking import CheckOptions, run_check  # noqa: PLC0415  what only this command needs

    raise typer.Exit(
        run_check(
            CheckOptions(
                stream="",
                inputs=tuple(inputs or ()),
                format=format_.wanted,
                batch_records=batch_records,
                batch_bytes=batch_bytes,
                failed=failed,
                report=report,
                json=json,
                showing=o.showing(progress, log_format, quiet=quiet, verbose=verbose),
            )
        )
    )
