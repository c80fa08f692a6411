"""Why the sandbox cannot be served at all."""


class SandboxError(Exception):
    """The sandbox cannot start; the message is a whole sentence for the user."""


class SandboxBusyError(SandboxError):
    """Another sandbox holds the state."""
