"""Failures of a run, each with the exit code that it ends in.

A failure of a record is data (`core.record.Failure`), never an exception.

    LoaderError                1  something unexpected; the journal stands
    ├── UsageError             2  flags, environment or files are not usable; nothing was sent
    ├── RefusedError           4  the service refuses: credentials, permission, stream
    ├── UnavailableError       5  nobody answered within --patience: rerun to go on
    └── BusyError             75  another run of the same load, or another sandbox, is under way
"""


class LoaderError(Exception):
    """A run cannot go on; the message is a whole sentence for the user."""

    exit_code = 1


class UsageError(LoaderError):
    """Configuration or inputs are not usable; nothing was sent."""

    exit_code = 2


class RefusedError(LoaderError):
    """The service refuses what every request of this load needs.

    `unclear`: the reply alone does not tell why, and asking the service more may.
    """

    exit_code = 4

    def __init__(self, message: str, *, unclear: bool = False) -> None:
        super().__init__(message)
        self.unclear = unclear


class UnavailableError(LoaderError):
    """What every request of this load needs did not answer within the patience; rerun to go on."""

    exit_code = 5


class BusyError(LoaderError):
    """Another run holds what this one needs: the run directory, or the state of the sandbox."""

    exit_code = 75
