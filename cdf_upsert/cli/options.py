"""Options that several commands share, as Typer takes them."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec import Struct

from cdf_upsert.cli.values import quota, size, whole
from cdf_upsert.core.showing import LogFormat, Progress, Showing, Verbosity
from cdf_upsert.errors import UsageError

if TYPE_CHECKING:
    from cdf_upsert.core.framing import Format


class FormatChoice(StrEnum):
    """How inputs are read."""

    auto = "auto"
    ndjson = "ndjson"
    json = "json"

    @property
    def wanted(self) -> "Format | None":
        """None: look at the content."""
        from cdf_upsert.core.framing import Format  # noqa: PLC0415  not for --help

        return None if self is FormatChoice.auto else Format(self.value)


Stream = Annotated[str, typer.Argument(metavar="STREAM", help="The stream's id.", show_default=False)]
Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[INPUT]...", help="Files, or - for standard input, which is also read when none is named."
    ),
]
Project = Annotated[str | None, typer.Option(help="The project [CDF_PROJECT].", metavar="NAME")]
Cluster = Annotated[str | None, typer.Option(help="The cluster [CDF_CLUSTER].", metavar="NAME")]
BaseUrl = Annotated[
    str | None,
    typer.Option(help="The address, instead of a cluster [CDF_URL].", metavar="URL"),
]
Profile = Annotated[str | None, typer.Option(help="A profile of cdf-upsert.toml.", metavar="NAME")]
InsecureHttp = Annotated[bool, typer.Option("--insecure-http", help="Allow plain http to other machines.")]
Sandbox = Annotated[
    bool,
    typer.Option(
        "--sandbox",
        help="Use an embedded sandbox: no account, nothing leaves this machine.",
        envvar="CDF_UPSERT_SANDBOX",
        show_envvar=False,
    ),
]
FormatOption = Annotated[
    FormatChoice,
    typer.Option(
        "--format",
        help="How the inputs are read; auto looks at them.",
        envvar="CDF_UPSERT_FORMAT",
        show_envvar=False,
    ),
]
BatchRecords = Annotated[
    int,
    typer.Option(
        help="Records of one request at most.",
        parser=whole(1, 1000),
        metavar="N",
        envvar="CDF_UPSERT_BATCH_RECORDS",
        show_envvar=False,
    ),
]
BatchBytes = Annotated[
    int,
    typer.Option(
        help="Bytes of one request at most, uncompressed.",
        parser=size,
        metavar="SIZE",
        envvar="CDF_UPSERT_BATCH_BYTES",
        show_envvar=False,
        show_default="10MB",
    ),
]
QuotaOption = Annotated[
    Any,
    typer.Option(
        "--quota",
        parser=quota,
        help="What the stream takes, such as 170000/10m, where its template is not a published one.",
        metavar="RECORDS/DURATION",
        envvar="CDF_UPSERT_QUOTA",
        show_envvar=False,
    ),
]
ProgressOption = Annotated[
    Progress,
    typer.Option(
        "--progress",
        help="A bar, a plain line now and then, or nothing; auto: a bar on a terminal.",
        envvar="CDF_UPSERT_PROGRESS",
        show_envvar=False,
    ),
]
LogFormatOption = Annotated[
    LogFormat,
    typer.Option(
        "--log-format",
        help="How diagnostics are written.",
        envvar="CDF_UPSERT_LOG_FORMAT",
        show_envvar=False,
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Write the report to standard output as JSON.",
        envvar="CDF_UPSERT_JSON",
        show_envvar=False,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        help="Say nothing when all goes well.",
        envvar="CDF_UPSERT_QUIET",
        show_envvar=False,
    ),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        help="Tell of each retry and wait, and the values where something else is stored.",
        envvar="CDF_UPSERT_VERBOSE",
        show_envvar=False,
    ),
]


def showing(progress: Progress, log_format: LogFormat, *, quiet: bool, verbose: bool) -> Showing:
    """What the user wants to see.

    Raises:
        UsageError: quiet and verbose at once.
    """
    return Showing(progress, log_format, verbosity(quiet=quiet, verbose=verbose))


def verbosity(*, quiet: bool, verbose: bool) -> Verbosity:
    """How much is said.

    Raises:
        UsageError: quiet and verbose at once.
    """
    if quiet and verbose:
        raise UsageError(
            "--quiet and --verbose, or CDF_UPSERT_QUIET and CDF_UPSERT_VERBOSE, contradict each other: give one "
            "of them."
        )
    return Verbosity.QUIET if quiet else Verbosity.VERBOSE if verbose else Verbosity.NORMAL


class TargetFlags(Struct, frozen=True):
    """What the command line says about the target; None: not given."""

    project: str | None = None
    cluster: str | None = None
    base_url: str | None = None
    profile: str | None = None
    insecure_http: bool = False

    def given(self) -> dict[str, str | None]:
        """As the settings take them."""
        return {
            "project": self.project,
            "cluster": self.cluster,
            "base_url": self.base_url,
            "profile": self.profile,
            "insecure_http": "true" if self.insecure_http else None,
        }
