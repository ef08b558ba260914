"""Writing virtual disks.

Whoever writes one calls :func:`aipimage.vmdk.writing.job.write_vmdk`, or
:func:`aipimage.vmdk.writing.stream.stream_disk` where it goes into something else, such as an OVA.
"""
