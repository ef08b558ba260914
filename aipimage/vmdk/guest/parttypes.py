"""Types of partitions that point to a firmware or a system.

Sources: UEFI Specification 2.10, section 5.3.3 (EFI system partition); the Discoverable Partitions
Specification of UAPI (Linux); Microsoft, PARTITION_INFORMATION_GPT (Windows); the list of MBR
types that util-linux keeps in include/pt-mbr-partnames.h.
"""

from __future__ import annotations

EFI_SYSTEM = frozenset({"c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "0xef"})
BIOS_BOOT = "21686148-6449-6e6f-744e-656564454649"
"""Holds GRUB's core on a GPT disk of a BIOS machine (GRUB manual, "BIOS installation")."""
LDM = frozenset(
    {"0x42", "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3", "af9b60a0-1431-4f62-bc68-3311714a69ad"}
)
"""Windows' dynamic disks: what is a volume is said in a database of their own."""
WINDOWS = {
    "e3c9e316-0b5c-4db8-817d-f92df00215ae": "reserved by Microsoft",
    "de94bba4-06d1-4d40-a16a-bfd50179d6ac": "Windows recovery",
    **dict.fromkeys(LDM, "a Windows dynamic disk"),
}
LINUX = {
    "0fc63daf-8483-4772-8e79-3d69d8477de4": "Linux data",
    "44479540-f297-41b2-9af7-d131d5f0458a": "a Linux root volume (x86)",
    "4f68bce3-e8cd-4db1-96e7-fbcaf984b709": "a Linux root volume (x86-64)",
    "b921b045-1df0-41c3-af44-4c6f280d3fae": "a Linux root volume (arm64)",
    "8484680c-9521-48c6-9c11-b0720656f69e": "a Linux /usr volume (x86-64)",
    "933ac7e1-2eb4-4f13-b844-0e14e2aef915": "a Linux home volume",
    "bc13c2ff-59e6-4262-a352-b275fd6f7172": "an extended boot loader partition",
    "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f": "Linux swap",
    "e6d6d379-f507-44c2-a23c-238f2a3df928": "Linux LVM",
    "a19d880f-05fc-4d3b-a006-743f0f84911e": "Linux RAID",
    "0x82": "Linux swap",
    "0x83": "Linux",
    "0x8e": "Linux LVM",
    "0xfd": "Linux RAID",
}
ARCHITECTURES = {
    "44479540-f297-41b2-9af7-d131d5f0458a": "x86",
    "4f68bce3-e8cd-4db1-96e7-fbcaf984b709": "x86-64",
    "8484680c-9521-48c6-9c11-b0720656f69e": "x86-64",
    "b921b045-1df0-41c3-af44-4c6f280d3fae": "arm64",
}
