"""Options that several commands share, as Typer takes them."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec import Struct

from cdf_upsert.cli.values import number, quota, size, whole
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


def option(name: str, says: str, *short: str, default: str = "", variable: bool = True, **how: Any) -> Any:
    """Make an option; `default` is how its help tells what holds without it.

    With `variable` it can also be set as `CDF_UPSERT_<OPTION>`.
    """
    return typer.Option(
        f"--{name}",
        *short,
        help=f"{says} [default: {default}]" if default else says,
        envvar=f"CDF_UPSERT_{name.upper().replace('-', '_')}" if variable else None,
        show_envvar=False,
        show_default=False,
        **how,
    )


def setting(name: str, says: str, **how: Any) -> Any:
    """Make an option that overrides a setting; the settings read its variables."""
    return option(name, says, variable=False, **how)


Stream = Annotated[str, typer.Argument(metavar="STREAM", help="The stream's id.", show_default=False)]
Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[INPUT]...", help="Files, or - for standard input, which is also read when none is named."
    ),
]

Project = Annotated[str | None, setting("project", "The project [CDF_PROJECT].", metavar="NAME")]
Cluster = Annotated[str | None, setting("cluster", "The cluster [CDF_CLUSTER].", metavar="NAME")]
BaseUrl = Annotated[
    str | None, setting("base-url", "The address, instead of a cluster [CDF_URL].", metavar="URL")
]
Profile = Annotated[str | None, setting("profile", "A profile of cdf-upsert.toml.", metavar="NAME")]
InsecureHttp = Annotated[bool, setting("insecure-http", "Allow plain http to other machines.")]
Sandbox = Annotated[
    bool, option("sandbox", "Use an embedded sandbox: no account, nothing leaves this machine.")
]

FormatOption = Annotated[
    FormatChoice,
    option(
        "format", "How the inputs are read; auto looks at them.", default="auto", metavar="auto|ndjson|json"
    ),
]
BatchRecords = Annotated[
    int,
    option(
        "batch-records",
        "Records of one request at most.",
        default="1000",
        metavar="N",
        parser=whole(1, 1000),
    ),
]
BatchBytes = Annotated[
    int,
    option(
        "batch-bytes",
        "Bytes of one request at most, uncompressed.",
        default="10MB",
        metavar="SIZE",
        parser=size,
    ),
]
MaxRate = Annotated[
    float | None, option("max-rate", "Records per second at most.", metavar="N", parser=number(0.01))
]
QuotaOption = Annotated[
    Any,
    option(
        "quota",
        "What the stream takes, such as 170000/10m, where its template is not a published one.",
        metavar="RECORDS/DURATION",
        parser=quota,
    ),
]
Timeout = Annotated[
    float,
    option("timeout", "Seconds for one request.", default="60", metavar="SECONDS", parser=number(0.1)),
]

ProgressOption = Annotated[
    Progress,
    option(
        "progress",
        "A bar, a plain line now and then, or nothing; auto: a bar on a terminal.",
        default="auto",
        metavar="auto|bar|plain|none",
    ),
]
LogFormatOption = Annotated[
    LogFormat,
    option("log-format", "How diagnostics are written.", default="text", metavar="text|json"),
]
Json = Annotated[bool, option("json", "Write the report to standard output as JSON.")]
Quiet = Annotated[bool, option("quiet", "Say nothing when all goes well.", "-q")]
Verbose = Annotated[
    bool,
    option("verbose", "Tell of each retry and wait, and the values where something else is stored.", "-v"),
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
