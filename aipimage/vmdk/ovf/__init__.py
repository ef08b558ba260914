"""Virtual appliances: OVF descriptors with their disks, as one file (OVA) or as several.

Reading: a path goes in, an ``OvaFile`` comes out, whose disks are block sources; read ``archive``
first, then ``contents``, which says where the files lie. Writing: disks go in, files come out;
``writing`` checks what is asked for, ``packing`` makes the content, ``ova`` and ``folder`` put it
into one file or several. Checking: ``checking``.
"""

from aipimage.vmdk.ovf.archive import OvaFile, open_ova, open_ovf
from aipimage.vmdk.ovf.checking import check_ova, check_ovf
from aipimage.vmdk.ovf.packing import DiskResult, OvaResult
from aipimage.vmdk.ovf.writing import write_ova, write_ovf

__all__ = [
    "DiskResult",
    "OvaFile",
    "OvaResult",
    "check_ova",
    "check_ovf",
    "open_ova",
    "open_ovf",
    "write_ova",
    "write_ovf",
]
