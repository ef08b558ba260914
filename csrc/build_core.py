"""Build the extension module ``aipimage._native`` with cffi, out of line, against the stable ABI.

setup.py names ``ffibuilder`` as a cffi module; after a change to the C files, install again with
``pip install -e . --no-build-isolation``.
"""

import os
import sys

from cffi import FFI

HERE = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(HERE, "sources.txt"), encoding="ascii") as listed:
    SOURCES = listed.read().split()
HEADERS = ("aip.h", "aip_api.h", "internal.h", "records.h", "blake3.h", "blake3_lanes.h")

# The loops rely on -O3 for their vector code; warnings are for those who change them. Without debug
# information, because that would carry the paths of the building machine into the wheel.
FLAGS = ["/O2"] if sys.platform == "win32" else ["-O3", "-g0", "-std=c11", "-Wall", "-Wextra"]

with open(os.path.join(HERE, "aip_api.h"), encoding="ascii") as api:
    DECLARATIONS = api.read()

ffibuilder = FFI()
ffibuilder.cdef(DECLARATIONS)
ffibuilder.set_source(
    "aipimage._native",
    '#include "aip.h"',
    # Relative to the project, where setuptools runs: it refuses absolute paths.
    sources=[f"csrc/{name}" for name in SOURCES],
    depends=[f"csrc/{name}" for name in HEADERS],
    include_dirs=["csrc"],
    extra_compile_args=FLAGS,
    define_macros=[("Py_LIMITED_API", "0x030B0000")],
)
