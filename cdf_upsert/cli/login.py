"""`cdf-upsert login` and `cdf-upsert logout`: flags to options."""

from typing import Annotated

import typer

from cdf_upsert.cli import options as o
from cdf_upsert.cli.options import TargetFlags


def login(
    *,
    device: Annotated[
        bool,
        o.option(
            "device", "Show a code to enter on another device, instead of opening a browser.", variable=False
        ),
    ] = False,
    project: o.Project = None,
    cluster: o.Cluster = None,
    base_url: o.BaseUrl = None,
    profile: o.Profile = None,
    insecure_http: o.InsecureHttp = False,
) -> None:
    """Sign in as a person, in a browser or with a code, and stay signed in.

    Later commands with the same profile need no other credentials.
    """
    from cdf_upsert.cli.signing_in import run_login  # noqa: PLC0415  what only this command needs

    flags = TargetFlags(project, cluster, base_url, profile, insecure_http)
    raise typer.Exit(run_login(flags, device=device))


def logout(*, profile: o.Profile = None) -> None:
    """Forget the sign-in of a person on this machine."""
    from cdf_upsert.cli.signing_in import run_logout  # noqa: PLC0415  what only this command needs

    raise typer.Exit(run_logout(profile))
