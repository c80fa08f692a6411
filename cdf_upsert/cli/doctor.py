"""`cdf-upsert doctor`: flags to options."""

from typing import Annotated

import typer

from cdf_upsert.cli import options as o
from cdf_upsert.cli.options import TargetFlags


def doctor(
    stream: Annotated[
        str | None,
        typer.Argument(metavar="[STREAM]", help="The stream that is to be loaded into.", show_default=False),
    ] = None,
    *,
    project: o.Project = None,
    cluster: o.Cluster = None,
    base_url: o.BaseUrl = None,
    profile: o.Profile = None,
    insecure_http: o.InsecureHttp = False,
    sandbox: o.Sandbox = False,
    json: Annotated[bool, o.option("json", "Write the checks to standard output as JSON.")] = False,
) -> None:
    """Find out why loading does not work: configuration, sign-in, project, stream, permissions, room.

    Exit code 2 when something on this side is wrong, 4 when the service refuses, 0 when a load can begin.
    """
    from cdf_upsert.cli.doctoring import run_doctor  # noqa: PLC0415  what only this command needs

    flags = TargetFlags(project, cluster, base_url, profile, insecure_http)
    raise typer.Exit(run_doctor(flags, stream, sandbox=sandbox, as_json=json))
