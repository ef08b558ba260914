"""The work on images, in rooms. A room imports only from those before it in this list.

``system`` (files, threads, caches), ``blocks`` (sources and sinks), ``records`` (frames: codec,
cipher), ``stream`` (files of an image, their beginning and end), ``index`` (frame tables and maps),
``reading`` (an image, its devices, restoring), ``changes`` (what changed on a disk), ``chain``
(which images belong together), ``creating``, ``increment``, ``merge``, ``checking`` and ``repair``.
docs/architecture.md says how bytes go through them.
"""
