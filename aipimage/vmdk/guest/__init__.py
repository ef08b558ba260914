"""What kind of machine a disk comes from: its firmware, its system, whether it can start one.

Only what lies on the disk is read, within bounds: partition table, boot code, superblocks, and the
names in some directories of FAT and NTFS. No program of the guest is run, none of its settings
read. A block source goes in, a ``GuestInfo`` comes out. Read ``examining`` first: ``contents``
looks at the disk, ``firmware`` and ``family`` judge what was seen. ``bootsectors`` compares a disk
with a new machine, for :mod:`aipimage.vmdk.p2v`.
"""

from aipimage.vmdk.guest.examining import examine, starting_disk
from aipimage.vmdk.guest.info import GuestInfo, GuestVolume

__all__ = ["GuestInfo", "GuestVolume", "examine", "starting_disk"]
