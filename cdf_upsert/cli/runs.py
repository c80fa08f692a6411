"""`cdf-upsert runs`: the loads that this directory knows."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cdf_upsert.cli import options as o

if TYPE_CHECKING:
    from cdf_upsert.journal.listing import KnownLoad


def runs(
    *,
    json: Annotated[bool, o.option("json", "Write the loads as one JSON array.", variable=False)] = False,
    remove_finished: Annotated[
        bool,
        o.option(
            "remove-finished",
            "Remove the run directories of loads of which everything was accepted.",
            variable=False,
        ),
    ] = False,
    run_dir: Annotated[
        Path | None, o.option("run-dir", "Look at this run directory instead.", metavar="DIR")
    ] = None,
) -> None:
    """List the loads whose run directories are in .cdf-upsert, and how they stand; the latest run first."""
    from cdf_upsert.core.wording import one_line  # noqa: PLC0415  `--help` does without
    from cdf_upsert.errors import LoaderError, UsageError  # noqa: PLC0415  as above
    from cdf_upsert.journal import ROOT, listing  # noqa: PLC0415
    from cdf_upsert.journal.names import JOURNAL  # noqa: PLC0415

    if run_dir is not None and not (run_dir / JOURNAL).exists():
        raise UsageError(f"{run_dir} holds no journal: name the run directory of a load with --run-dir.")
    loads = listing.known_loads(Path(ROOT)) if run_dir is None else [listing.known_load(run_dir)]
    removed: list[str] = []
    if remove_finished:
        try:
            removed = [one.directory for one in loads if listing.remove_finished(Path(one.directory))]
        except OSError as error:
            raise LoaderError(
                f"{error.filename} cannot be removed ({error.strerror}): remove it by hand."
            ) from error
        loads = [one for one in loads if one.directory not in removed]
    for directory in removed:
        sys.stderr.write(f"removed {directory}\n")
    for load in loads if remove_finished else ():
        if load.state is listing.LoadState.COMPLETE and listing.holds_failed(Path(load.directory)):
            sys.stderr.write(
                f"kept {load.directory}: an earlier run has left failed records there; remove it by hand.\n"
            )
    if json:
        import msgspec  # noqa: PLC0415  as above

        sys.stdout.write(msgspec.json.encode(loads).decode() + "\n")
        return
    if not loads and not removed:
        sys.stderr.write("There is no run directory in .cdf-upsert; --run-dir names one that is elsewhere.\n")
    for load in loads:
        sys.stdout.write("\n".join(map(one_line, _paragraph(load))) + "\n")


def _paragraph(load: "KnownLoad") -> list[str]:
    """A load in a few lines, the first of which says how it stands."""
    from cdf_upsert.cli.wiring import SANDBOX_NAME  # noqa: PLC0415  `--help` does without

    lines = [f"{load.directory}: {load.state}"]
    if load.stream is None:
        return [*lines, f"  {load.reason}"]
    inputs = ", ".join("standard input" if path == "-" else path for path in load.inputs)
    target = "the sandbox" if load.base_url == SANDBOX_NAME else f"{load.project} at {load.base_url}"
    lines.append(f"  {inputs} -> {load.stream} in {target}")
    if load.holder is not None:
        when = f"since {load.started}, process {load.holder.pid} on {load.holder.host}"
    elif load.ended is not None:
        when = f"{load.started} to {load.ended}"
    else:
        when = f"{load.started}, cut off"
    lines.append(f"  run {load.run}: {when}" + (f". {load.reason}" if load.reason else ""))
    counts = [f"{load.accepted:,} accepted"]
    if load.superseded:
        counts.append(f"{load.superseded:,} superseded")
    if load.failed:
        counts.append(f"{load.failed:,} failed ({load.failed_file})")
    if load.to_go:
        counts.append(f"{load.to_go:,} to go")
    return [*lines, f"  {', '.join(counts)}"]
