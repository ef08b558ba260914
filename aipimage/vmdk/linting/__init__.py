"""The parts of the checker of VMDK files; :mod:`aipimage.vmdk.lint` is its door."""
