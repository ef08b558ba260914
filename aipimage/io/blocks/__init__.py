"""What is imaged and what is restored to: block sources, block sinks, and free space.

In go paths, file objects and objects of an embedder; out come sources that are read at any offset
and sinks that are written at any offset. This room knows no records. Read ``model.py`` first.
"""
