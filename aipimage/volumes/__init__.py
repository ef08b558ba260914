"""What of a disk is in use: partition tables, file systems and their allocation maps.

In goes a block source; out comes a ``DiskSurvey``: the partition table, the volumes, and what of
each is free. A structure is trusted only where everything that it can be compared with agrees.
Where there is any doubt, the whole volume counts as in use and the result says why. Read
``survey.py`` first, then ``model.py``; ``filesystems`` and ``tables`` hold the parsers,
``preparing.py`` what is left out of an image, ``described.py`` what an image says of its volumes,
and ``restoring`` the way back. ``image.py`` and ``chain.py`` are the public ``Image`` and
``Chain``: those of ``io``, with the volumes that their users ask for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aipimage.volumes.chain import Chain as Chain
    from aipimage.volumes.shadowcopies.copies import ShadowCopy as ShadowCopy
else:

    def __getattr__(name: str) -> Any:
        """``Chain`` and ``ShadowCopy`` are loaded when an annotation that names them is resolved:
        an image imports what finds them only where it is asked for one.
        """
        if name == "Chain":
            from aipimage.volumes.chain import Chain

            return Chain
        if name == "ShadowCopy":
            from aipimage.volumes.shadowcopies.copies import ShadowCopy

            return ShadowCopy
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
