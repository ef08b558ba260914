"""What pyproject.toml cannot say: the cffi module, and one wheel for every CPython from 3.11 on."""

import os
import shutil
import sys
import sysconfig

from setuptools import setup

# A free-threaded interpreter has no stable ABI, so a wheel built by one keeps its own tag.
STABLE_ABI = not sysconfig.get_config_var("Py_GIL_DISABLED")
BUILDS = {"bdist_wheel", "build", "build_ext", "editable_wheel", "install", "develop"}


def refuse_without_tools() -> None:
    """End with one sentence where there is no compiler, or no headers of Python."""
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    header = os.path.join(sysconfig.get_path("include"), "Python.h")
    missing = []
    if sys.platform != "win32" and shutil.which(compiler) is None and shutil.which("cc") is None:
        missing.append("a C compiler (gcc on Debian)")
    if not os.path.exists(header):
        missing.append("the header files of Python (python3-dev on Debian)")
    if missing:
        sys.exit(f"aipimage has a part in C: install {' and '.join(missing)}, and try again")


if BUILDS & set(sys.argv):
    refuse_without_tools()

setup(
    cffi_modules=["csrc/build_core.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if STABLE_ABI else {},
)
