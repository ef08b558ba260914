"""Verifying images and chains (docs/format.md, section 13).

In goes an opened image, or a path where no key is known; out comes a ``VerifyResult`` with the
damage that was found. Read ``verify.py`` first: its steps are ``pagecheck.py``, ``framecheck.py``
with ``contentcheck.py``, and ``streamcheck.py``, which share the state in ``verification.py``.
``chainverify.py`` verifies what an image needs of its chain, and ``keyless.py`` needs no key.
"""
