"""What changed on a disk, in every form that a caller can pass it (docs/tracking.md).

In go ranges, bitmaps, files of trackers and of other programs; out come ranges in bytes. Read
``forms.py`` first: it recognises the form, and each file format has a module of its own.
"""
