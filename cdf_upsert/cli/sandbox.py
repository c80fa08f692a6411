"""`cdf-upsert sandbox`: flags to options, the server's own words to standard output."""

import sys
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cdf_upsert.cli import options as o
from cdf_upsert.cli.values import number, whole
from cdf_upsert.errors import UsageError


class Limits(StrEnum):
    """Whether budgets and quotas of the service hold."""

    off = "off"
    cdf = "cdf"


_option = partial(o.option, variable=False)


def sandbox(
    *,
    port: Annotated[
        int,
        _option(
            "port",
            "Port to listen on; 0 takes a free one.",
            default="8321",
            metavar="N",
            parser=whole(0, 65535),
        ),
    ] = 8321,
    host: Annotated[
        str,
        _option(
            "host",
            "Address to listen on; anything but loopback is open to others.",
            default="127.0.0.1",
            metavar="ADDRESS",
        ),
    ] = "127.0.0.1",
    data: Annotated[
        Path | None,
        _option("data", "Directory that keeps the state.", default="memory", metavar="DIR", file_okay=False),
    ] = None,
    project: Annotated[
        str, _option("project", "Name of the project that is served.", default="sandbox", metavar="NAME")
    ] = "sandbox",
    strict: Annotated[
        bool, _option("strict", "Spaces, containers and streams must be declared before use.")
    ] = False,
    limits: Annotated[
        Limits, _option("limits", "Hold the service's budgets and quotas.", default="off", metavar="off|cdf")
    ] = Limits.off,
    clock_speed: Annotated[
        float,
        _option(
            "clock-speed",
            "Let the sandbox's time run so many times faster.",
            default="1",
            metavar="N",
            parser=number(0.001),
        ),
    ] = 1.0,
    visible_after: Annotated[
        float,
        _option(
            "visible-after",
            "Seconds until readers see what was written.",
            default="0",
            metavar="SECONDS",
            parser=number(0),
        ),
    ] = 0.0,
    faults: Annotated[
        Path | None,
        _option("faults", "TOML file of faults to commit on purpose.", metavar="FILE", dir_okay=False),
    ] = None,
    chaos: Annotated[
        float,
        _option(
            "chaos",
            "Share of requests that meet a random fault.",
            default="0",
            metavar="SHARE",
            parser=number(0, 1),
        ),
    ] = 0.0,
    seed: Annotated[int, _option("seed", "Seed of the random faults.", default="0", metavar="N")] = 0,
    seed_file: Annotated[
        list[Path] | None,
        _option(
            "seed-file",
            "JSON file of spaces, containers and streams to begin with.",
            metavar="FILE",
            dir_okay=False,
        ),
    ] = None,
) -> None:
    """Serve the local stand-in for CDF until Ctrl+C."""
    from cdf_upsert.sandbox.problem import SandboxError  # noqa: PLC0415 - only this command needs the sandbox
    from cdf_upsert.sandbox.serve import Options, serve  # noqa: PLC0415

    options = Options(
        data=data,
        host=host,
        port=port,
        strict=strict,
        limits="cdf" if limits is Limits.cdf else "off",
        clock_speed=clock_speed,
        faults=faults,
        chaos=chaos,
        seed=seed,
        project=project,
        seeds=tuple(seed_file or ()),
        visible_after=visible_after,
    )
    try:
        code = serve(options, sys.stdout)
    except SandboxError as error:
        raise UsageError(str(error)) from error
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in ("starlette", "uvicorn"):
            raise
        raise UsageError(
            f"The sandbox needs {package}, which is not installed: pip install 'cdf-upsert[sandbox]'."
        ) from error
    raise typer.Exit(code)
