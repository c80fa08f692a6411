"""A stream that people read, and that never fails: who stops listening does not stop a load."""

import os
from typing import TextIO

from cdf_upsert.core.wording import shown


class Output:
    """Writes to `stream` until that fails, and is silent from then on; None stands for a closed stream.

    Looks enough like a text stream for a terminal library to draw on.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    @property
    def encoding(self) -> str:
        """The encoding of the stream."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        try:
            return self._stream is not None and self._stream.isatty()
        except ValueError:  # A closed file.
            return False

    def fileno(self) -> int:
        """Return the descriptor of the stream.

        Raises:
            OSError: there is none.

        """
        if self._stream is None:
            raise OSError("the stream is closed")
        return self._stream.fileno()

    def write(self, text: str) -> int:
        """Write `text`; characters that the stream cannot hold are written out."""
        if self._stream is not None:
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                self.write(shown(text).encode(self.encoding, "backslashreplace").decode(self.encoding))
            except BlockingIOError:
                pass  # A full pipe that does not wait: a line is lost, the load goes on.
            except (OSError, ValueError):
                self._fall_silent()
        return len(text)

    def flush(self) -> None:
        """Pass on what was written."""
        if self._stream is not None:
            try:
                self._stream.flush()
            except BlockingIOError:
                pass
            except (OSError, ValueError):
                self._fall_silent()

    def line(self, text: str) -> None:
        """Write one line, at once."""
        self.write(f"{text}\n")
        self.flush()

    def _fall_silent(self) -> None:
        """Send what is left in buffers nowhere, so that the interpreter does not fail over it at its end."""
        assert self._stream is not None
        stream, self._stream = self._stream, None
        try:
            descriptor = stream.fileno()
        except (OSError, ValueError):
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
