"""What the interpreter and the C library are told by a process that moves gigabytes in blocks."""

import gc

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Names of options in glibc's `malloc.h`."""

KEPT_BYTES = 16_000_000
"""Freed memory that is kept for the next block."""


def tune() -> None:
    """Save what costs a third of the time of reading, checking and packing a record.

    By default young objects are gone through at every 700, though records are no part of cycles; and glibc gives
    the memory of each block back to the kernel, which then has to clear new pages for the next one.
    """
    gc.freeze()
    gc.set_threshold(100_000)
    import ctypes  # noqa: PLC0415  only a load needs it

    try:
        set_option = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return  # Another C library, with other habits.
    set_option(MMAP_THRESHOLD, KEPT_BYTES)
    set_option(TRIM_THRESHOLD, KEPT_BYTES)
