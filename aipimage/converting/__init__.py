"""Conversion of any source to any target, in one pass and without a copy in between.

In goes a name: an ``.aiv`` image of any chain, a virtual disk, an appliance, or plain bytes. Out
comes another of these, written through ``.partial`` names, and a ``ConvertResult``. ``formats``
says what a file is, ``request`` what was asked for and what came back, ``sources`` opens what is
read; ``targets`` and, for plain bytes, ``raw`` (with ``rawfile``) write. Read ``convert`` first: it
is the whole way in one function. The package is not called ``convert``, because
``aipimage.convert`` is that function.
"""
