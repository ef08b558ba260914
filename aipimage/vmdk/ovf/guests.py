"""Systems that an appliance can be said to have in it: ``OperatingSystemSection``.

Importers choose devices and settings by it and know far more systems than a disk can show;
so few are named here, each with the number that CIM gives it and the name that vSphere 6.0, the
first to have hardware version 11, knows already.
"""

from __future__ import annotations

import re

from aipimage.errors import RequestError
from aipimage.vmdk.guest.info import GuestSystem

GUESTS = {
    "linux": GuestSystem(101, "other3xLinux64Guest", "Other 3.x or later Linux (64-bit)"),
    "debian": GuestSystem(96, "debian8_64Guest", "Debian GNU/Linux 8 (64-bit)"),
    "ubuntu": GuestSystem(94, "ubuntu64Guest", "Ubuntu Linux (64-bit)"),
    "redhat": GuestSystem(80, "rhel7_64Guest", "Red Hat Enterprise Linux 7 (64-bit)"),
    "centos": GuestSystem(107, "centos64Guest", "CentOS (64-bit)"),
    "suse": GuestSystem(85, "sles12_64Guest", "SUSE Linux Enterprise 12 (64-bit)"),
    "windows": GuestSystem(120, "windows9_64Guest", "Microsoft Windows 10 (64-bit)"),
    "windows-server": GuestSystem(
        116, "windows9Server64Guest", "Microsoft Windows Server 2016 (64-bit)"
    ),
    "freebsd": GuestSystem(78, "freebsd64Guest", "FreeBSD (64-bit)"),
    "other": GuestSystem(102, "otherGuest64", "Other (64-bit)"),
}
"""What may be asked for; what is seen from a disk, ``GuestInfo.system`` says."""

_OS_TYPE = re.compile(r"[a-z][A-Za-z0-9_]{0,58}Guest(?:64)?")
_OTHER_ID = 1
"""CIM's number for "Other": what goes with a vSphere name that is not known here."""


def guest_system(name: str | GuestSystem) -> GuestSystem:
    """Return the guest system for a name of ``GUESTS`` or an identifier of vSphere's own, such as
    ``windows2019srv_64Guest``, which is written as it is.

    Raises:
        RequestError: neither.
    """
    if isinstance(name, GuestSystem):
        return name
    if (known := GUESTS.get(name.lower())) is not None:
        return known
    for each in GUESTS.values():
        if each.os_type == name:
            return each
    if not _OS_TYPE.fullmatch(name):
        raise RequestError(
            f"{name!r}: not a known guest system; use one of {', '.join(GUESTS)}, or vSphere's "
            "own name for it, such as ubuntu64Guest"
        )
    return GuestSystem(_OTHER_ID, name, name)
