"""`cdf-upsert verify`: flags to options."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cdf_upsert.cli import options as o
from cdf_upsert.cli.options import TargetFlags
from cdf_upsert.cli.values import at_least, duration
from cdf_upsert.cli.values import sample as sample_of


def verify(
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
    sample: Annotated[
        Any,
        typer.Option(
            parser=sample_of,
            help="Compare only some of the keys, picked by chance: 500, or 5%.",
            metavar="N|P%",
            envvar="CDF_UPSERT_SAMPLE",
            show_envvar=False,
        ),
    ] = None,
    differences: Annotated[
        Path | None,
        typer.Option(
            help="Where the records go that are not stored as they are in the inputs; load takes this file. "
            "[default: below .cdf-upsert]",
            metavar="FILE",
            envvar="CDF_UPSERT_DIFFERENCES",
            show_envvar=False,
            show_default=False,
        ),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(
            help="Seconds for one request.",
            parser=at_least(0.1),
            metavar="SECONDS",
            envvar="CDF_UPSERT_TIMEOUT",
            show_envvar=False,
        ),
    ] = 60.0,
    patience: Annotated[
        float,
        typer.Option(
            help="How long to go on without an answer.",
            parser=duration,
            metavar="DURATION",
            envvar="CDF_UPSERT_PATIENCE",
            show_envvar=False,
            show_default="30m",
        ),
    ] = 1800.0,
    json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            "-v",
            help="Tell the values that differ, not only the names of their properties.",
            envvar="CDF_UPSERT_VERBOSE",
            show_envvar=False,
        ),
    ] = False,
) -> None:
    """Compare what is stored with the last version of each key in the inputs.

    Exit code 0 when all is stored as it is in the inputs, 3 when not: then the records that are missing or
    different are in a file, and loading that file mends them.
    """
    from cdf_upsert.cli.verifying import VerifyOptions, run_verify  # noqa: PLC0415  what only this command needs

    raise typer.Exit(
        run_verify(
            VerifyOptions(
                stream=stream,
                inputs=tuple(inputs or ()),
                target=TargetFlags(project, cluster, base_url, profile, insecure_http),
                sandbox=sandbox,
                format=format_.wanted,
                sample=sample,
                differences=differences,
                timeout=timeout,
                patience=patience,
                json=json,
                verbosity=o.verbosity(quiet=quiet, verbose=verbose),
            )
        )
    )
