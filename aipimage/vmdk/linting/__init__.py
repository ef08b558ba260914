"""The parts of the checker of VMDK files, which :func:`aipimage.vmdk.lint.lint` calls.

In goes a path; out come findings, each with a code of ``codes``. Read ``disk`` first: it checks the
descriptor (``text`` splits it, ``meaning`` judges it), then each extent by its kind: ``hosted``,
with ``stream`` for compressed ones, ``cowd`` or ``sesparse``. ``header``, ``tables``, ``sparse``,
``space`` and ``grains`` are what these have in common. ``job`` counts and reports progress.
"""
