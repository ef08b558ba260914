"""Compare a virtual disk with a raw file through libvmdk: a program for the system's Python.

    python3 readback.py DISK RAW RANGES

RANGES lists "offset length" a line, in bytes. Prints the size of the disk, or fails with the
offset at which libvmdk reads something else.
"""

import sys


def main(path: str, raw: str, ranges: str) -> None:
    import pyvmdk  # type: ignore[import-not-found]

    handle = pyvmdk.handle()
    handle.open(path)
    handle.open_extent_data_files()
    with open(raw, "rb") as file, open(ranges) as lines:
        for line in lines:
            offset, length = map(int, line.split())
            file.seek(offset)
            if handle.read_buffer_at_offset(length, offset) != file.read(length):
                sys.exit(f"libvmdk reads something else in {length} bytes at {offset}")
    print(handle.get_media_size())
    handle.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
