"""Virtual appliances: OVF 1.x descriptors with their disks, as one file (OVA) or as several."""

from aipimage.vmdk.ovf.archive import OvaFile, open_ova
from aipimage.vmdk.ovf.checking import check_ova
from aipimage.vmdk.ovf.packing import DiskResult, OvaResult
from aipimage.vmdk.ovf.writing import write_ova, write_ovf

__all__ = ["DiskResult", "OvaFile", "OvaResult", "check_ova", "open_ova", "write_ova", "write_ovf"]
