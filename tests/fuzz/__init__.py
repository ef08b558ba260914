"""Fuzz targets of the decoders: coverage-guided with atheris, or with a small loop of our own."""
