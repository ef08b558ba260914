"""Types of the standard library in public annotations, loaded when an annotation is resolved: what
they lie in is not needed to import this package, or is not in every Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Executor as Executor

    from typing_extensions import Buffer as Buffer
else:

    def __getattr__(name: str) -> Any:
        if name == "Executor":
            from concurrent.futures import Executor

            return Executor
        if name == "Buffer":
            import collections.abc

            # Python 3.12 has it (PEP 688).
            return getattr(collections.abc, "Buffer", bytes | bytearray | memoryview)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
