"""`cdf-upsert load`: flags to options."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cdf_upsert.cli import options as o
from cdf_upsert.cli.options import TargetFlags
from cdf_upsert.cli.values import concurrency as concurrency_of
from cdf_upsert.cli.values import duration, number
from cdf_upsert.cli.values import max_failures as max_failures_of
from cdf_upsert.core.showing import LogFormat, Progress


def load(
    stream: o.Stream,
    inputs: o.Inputs = None,
    *,
    project: o.Project = None,
    cluster: o.Cluster = None,
    base_url: o.BaseUrl = None,
    profile: o.Profile = None,
    insecure_http: o.InsecureHttp = False,
    sandbox: o.Sandbox = False,
    format_: o.FormatOption = o.FormatChoice.auto,
    linger: Annotated[
        float,
        o.option(
            "linger",
            "Seconds that a part-filled batch waits for a slow input.",
            default="1",
            metavar="SECONDS",
            parser=number(0),
        ),
    ] = 1.0,
    dry_run: Annotated[bool, o.option("dry-run", "Read, check and pack; send nothing.")] = False,
    batch_records: o.BatchRecords = 1000,
    batch_bytes: o.BatchBytes = 10_000_000,
    concurrency: Annotated[
        int,
        o.option(
            "concurrency",
            "Requests at once: a number, or auto to find out what the service takes.",
            default="auto",
            metavar="auto|N",
            parser=concurrency_of,
        ),
    ] = 0,
    max_rate: o.MaxRate = None,
    quota: o.QuotaOption = None,
    timeout: o.Timeout = 60.0,
    patience: Annotated[
        float,
        o.option(
            "patience",
            "How long to go on without a single record being accepted, while the service says later.",
            default="30m",
            metavar="DURATION",
            parser=duration,
        ),
    ] = 1800.0,
    max_duration: Annotated[
        float | None,
        o.option(
            "max-duration",
            "Stop in good order after this long; rerun to go on.",
            metavar="DURATION",
            parser=duration,
        ),
    ] = None,
    max_failures: Annotated[
        Any,
        o.option(
            "max-failures",
            "Stop in good order when more records than this have failed: 100, or 2%.",
            metavar="N|P%",
            parser=max_failures_of,
        ),
    ] = None,
    run_dir: Annotated[
        Path | None,
        o.option(
            "run-dir",
            "Where journal, failed file and report are kept.",
            default="below .cdf-upsert",
            metavar="DIR",
        ),
    ] = None,
    failed: Annotated[
        Path | None, o.option("failed", "Put the failed file elsewhere.", metavar="FILE")
    ] = None,
    report: Annotated[Path | None, o.option("report", "Put the report elsewhere.", metavar="FILE")] = None,
    fresh: Annotated[bool, o.option("fresh", "Forget an unfinished earlier run of the same load.")] = False,
    progress: o.ProgressOption = Progress.AUTO,
    json: o.Json = False,
    log_format: o.LogFormatOption = LogFormat.TEXT,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Load records into a stream.

    A rerun of the same command sends only what is missing. Every option can also be set as
    CDF_UPSERT_<OPTION>, in the environment or in .env.
    """
    showing = o.showing(progress, log_format, quiet=quiet, verbose=verbose)
    if dry_run:
        from cdf_upsert.cli.checking import CheckOptions, run_check  # noqa: PLC0415  only then

        raise typer.Exit(
            run_check(
                CheckOptions(
                    stream=stream,
                    inputs=tuple(inputs or ()),
                    format=format_.wanted,
                    batch_records=batch_records,
                    batch_bytes=batch_bytes,
                    failed=failed,
                    report=report,
                    json=json,
                    showing=showing,
                )
            )
        )
    from cdf_upsert.cli.loading import LoadOptions, run_load  # noqa: PLC0415  what only this command needs

    raise typer.Exit(
        run_load(
            LoadOptions(
                stream=stream,
                inputs=tuple(inputs or ()),
                target=TargetFlags(project, cluster, base_url, profile, insecure_http),
                sandbox=sandbox,
                format=format_,
                linger=linger,
                batch_records=batch_records,
                batch_bytes=batch_bytes,
                concurrency=concurrency or None,
                max_rate=max_rate,
                quota=quota,
                timeout=timeout,
                patience=patience,
                max_duration=max_duration,
                max_failures=max_failures,
                run_dir=run_dir,
                failed=failed,
                report=report,
                fresh=fresh,
                json=json,
                showing=showing,
            )
        )
    )
