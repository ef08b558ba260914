"""File systems and other contents of volumes: one module or package a family.

Each has a ``PARSER`` (see ``volumes/model.py``): in goes a view of a volume; out come the kind,
label and UUID, and the map of its free clusters, or a ``LayoutError`` that says what cannot be
trusted. Read ``registry.py`` first: it asks all parsers, since a volume that looks like two of them
is taken whole. In a family's package ``layout.py`` has its structures, ``allocation.py`` the map,
and ``headers.py`` what is written when a volume is moved or changes its size.
"""
