"""What pyproject.toml cannot say: the cffi module, and one wheel for every CPython from 3.11 on."""

import sysconfig

from setuptools import setup

# A free-threaded interpreter has no stable ABI, so a wheel built by one keeps its own tag.
STABLE_ABI = not sysconfig.get_config_var("Py_GIL_DISABLED")

setup(
    cffi_modules=["csrc/build_core.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if STABLE_ABI else {},
)
