"""Restoring disks and volumes of images: to targets of another size, with new ids, boot code alone.

Whoever restores calls :func:`aipimage.volumes.restoring.disk.restore_disk` or
:func:`aipimage.volumes.restoring.volume.restore_volume`.
"""
