"""Writes to a file, with the data arriving later than the write's time stamp.

    stalled_write.py FILE OFFSET LENGTH BYTE

The source of the write is memory whose page is missing: the system stamps the file's times, then waits for the page.
Prints `stamped` once that is so, waits for a line on standard input, supplies the page, prints `landed`. Exits with 77
where the system does not offer this (userfaultfd).
"""

import ctypes
import fcntl
import mmap
import os
import platform
import struct
import sys
import threading
import time

PAGE = mmap.PAGESIZE
SYSCALLS = {"x86_64": 323, "aarch64": 282}
# Source: linux/userfaultfd.h.
UFFDIO_API, UFFDIO_REGISTER, UFFDIO_COPY = 0xC018AA3F, 0xC020AA00, 0xC028AA03
REGISTER_MISSING = 1


def missing_page():
    """A page that stalls whoever touches it, its address, and the descriptor that supplies it."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.syscall(SYSCALLS.get(platform.machine(), -1), os.O_CLOEXEC)
    if descriptor < 0:
        sys.exit(77)
    fcntl.ioctl(descriptor, UFFDIO_API, struct.pack("QQQ", 0xAA, 0, 0))
    page = mmap.mmap(-1, PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    fcntl.ioctl(descriptor, UFFDIO_REGISTER, struct.pack("QQQQ", address, PAGE, REGISTER_MISSING, 0))
    return page, address, descriptor


def supply(descriptor, address, content):
    source = ctypes.create_string_buffer(content, PAGE)
    fcntl.ioctl(descriptor, UFFDIO_COPY, struct.pack("QQQQq", address, ctypes.addressof(source), PAGE, 0, 0))


def main():
    path, offset, length, byte = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    page, address, descriptor = missing_page()
    file = os.open(path, os.O_WRONLY)
    before = os.stat(path).st_ctime_ns
    libc = ctypes.CDLL(None, use_errno=True)
    libc.pwrite.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long]
    writer = threading.Thread(target=libc.pwrite, args=(file, address, length, offset))
    writer.start()
    while os.stat(path).st_ctime_ns == before:
        time.sleep(0.01)
    print("stamped", flush=True)
    sys.stdin.readline()
    supply(descriptor, address, bytes([byte]) * length)
    writer.join()
    print("landed", flush=True)
    del page


if __name__ == "__main__":
    main()
