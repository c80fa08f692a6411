"""The bare limit: frames 1000 lines, compresses, pushes down one socket, reads the reply.

`python -m tests.benchmarks.baseline_bare FILE PORT`. No checks, no books, one request at a time: nothing that
loads can do less in one thread.
"""

import socket
import sys
from itertools import islice
from pathlib import Path

from isal import igzip


def main(path: Path, port: int) -> None:
    """Push the whole file.

    Raises:
        RuntimeError: a reply was not 202.
    """
    with (
        socket.create_connection(("127.0.0.1", port)) as connection,
        path.open("rb", buffering=1 << 20) as file,
    ):
        while lines := list(islice(file, 1000)):
            body = igzip.compress(b'{"items":[' + b",".join(lines) + b"]}", 1)
            connection.sendall(
                b"POST /api/v1/projects/bench/streams/bench/records/upsert HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                b"Content-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s"
                % (len(body), body)
            )
            reply = b""
            while not reply.endswith(b"\r\n\r\n{}"):
                part = connection.recv(1 << 16)
                reply += part
                if not part or b" 202 " not in reply:
                    raise RuntimeError(f"The server did not accept: {reply!r}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
