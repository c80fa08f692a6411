"""`cdf-upsert`, and `python -m cdf_upsert`."""

import os
import signal
from types import FrameType


def main() -> None:
    """Import the command line and run it; ends the process with the exit code."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Until then nothing can be lost, and Python would say where in its imports it was interrupted.
        signal.signal(signal.SIGINT, _leave)
    from cdf_upsert.cli import main as run  # noqa: PLC0415  This is what takes long.

    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


def _leave(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  as signals are told
    os._exit(130)


if __name__ == "__main__":
    main()
