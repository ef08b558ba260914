"""The parts of :func:`aipimage.convert`: formats by their names, sources, and targets of bytes."""
