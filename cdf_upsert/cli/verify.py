"""`cdf-upsert verify`: flags to options."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cdf_upsert.cli import options as o
from cdf_upsert.cli.options import TargetFlags
from cdf_upsert.cli.values import duration
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
        o.option(
            "sample",
            "Compare only some of the keys, picked by chance: 500, or 5%.",
            metavar="N|P%",
            parser=sample_of,
        ),
    ] = None,
    differences: Annotated[
        Path | None,
        o.option(
            "differences",
            "Where the records go that are not stored as they are in the inputs; load takes this file.",
            default="below .cdf-upsert",
            metavar="FILE",
        ),
    ] = None,
    timeout: o.Timeout = 60.0,
    patience: Annotated[
        float,
        o.option(
            "patience",
            "How long to go on without an answer.",
            default="30m",
            metavar="DURATION",
            parser=duration,
        ),
    ] = 1800.0,
    json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: Annotated[
        bool,
        o.option("verbose", "Tell the values that differ, not only the names of their properties.", "-v"),
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
