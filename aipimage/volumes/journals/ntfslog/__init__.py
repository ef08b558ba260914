"""The journal of NTFS, $LogFile.

In goes the content of the file, out come its records from the oldest one that may still be needed
to the last. ``restart.py`` reads its two restart pages, ``pages.py`` its ring of log pages,
``records.py`` what lies in them one after the other, ``operations.py`` what each record says.
"""
