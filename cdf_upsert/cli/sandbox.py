"""`cdf-upsert sandbox`: flags to options, the server's own words to standard output."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cdf_upsert.errors import UsageError

_PORT = 8321


class Limits(StrEnum):
    """Whether budgets and quotas of the service hold."""

    off = "off"
    cdf = "cdf"


def sandbox(
    *,
    port: Annotated[
        int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)
    ] = _PORT,
    host: Annotated[
        str, typer.Option(help="Address to listen on; anything but loopback is open to others.")
    ] = "127.0.0.1",
    data: Annotated[
        Path | None, typer.Option(help="Directory that keeps the state; without it, memory.", file_okay=False)
    ] = None,
    project: Annotated[str, typer.Option(help="Name of the project that is served.")] = "sandbox",
    strict: Annotated[
        bool, typer.Option("--strict", help="Spaces, containers and streams must be declared before use.")
    ] = False,
    limits: Annotated[
        Limits, typer.Option(help="Hold the service's budgets and quotas: off or cdf.")
    ] = Limits.off,
    clock_speed: Annotated[
        float, typer.Option(help="Let the sandbox's time run so many times faster.", min=0.001)
    ] = 1.0,
    visible_after: Annotated[
        float, typer.Option(help="Seconds until readers see what was written.", min=0)
    ] = 0.0,
    faults: Annotated[
        Path | None, typer.Option(help="TOML file of faults to commit on purpose.", dir_okay=False)
    ] = None,
    chaos: Annotated[
        float, typer.Option(help="Share of requests that meet a random fault.", min=0, max=1)
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the random faults.")] = 0,
    seed_file: Annotated[
        list[Path] | None,
        typer.Option(help="JSON file of spaces, containers and streams to begin with.", dir_okay=False),
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
