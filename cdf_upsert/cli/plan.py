"""`cdf-upsert plan`: flags to options."""

from typing import Annotated

import typer

from cdf_upsert.cli import options as o
from cdf_upsert.cli.options import TargetFlags


def plan(
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
    batch_records: o.BatchRecords = 1000,
    batch_bytes: o.BatchBytes = 10_000_000,
    max_rate: o.MaxRate = None,
    quota: o.QuotaOption = None,
    json: Annotated[bool, o.option("json", "Write the plan to standard output as JSON.")] = False,
) -> None:
    """Say what a load would take: records, requests, bytes, quota windows and time. Sends no record."""
    from cdf_upsert.cli.planning import PlanOptions, run_plan  # noqa: PLC0415  what only this command needs

    raise typer.Exit(
        run_plan(
            PlanOptions(
                stream=stream,
                inputs=tuple(inputs or ()),
                target=TargetFlags(project, cluster, base_url, profile, insecure_http),
                sandbox=sandbox,
                format=format_.wanted,
                batch_records=batch_records,
                batch_bytes=batch_bytes,
                max_rate=max_rate,
                quota=quota,
                json=json,
            )
        )
    )
