"""Makes the C allocator return large buffers to the operating system when they are freed.

By default glibc stops doing so after the first buffer of some megabytes: it raises its threshold to that size, and keeps
later buffers of up to this size in its heap, where other data around them holds their memory.
"""

import ctypes
from contextlib import suppress
from typing import Final

LARGE_BYTES: Final = 128 * 1024
"""glibc's own first threshold. Setting it stops glibc from raising it."""
_M_MMAP_THRESHOLD: Final = -3
"""From glibc's malloc.h."""


def return_large_buffers() -> None:
    """Fix the size from which a buffer gets separate memory pages. Does nothing if the C library is not glibc."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
