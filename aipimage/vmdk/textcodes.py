"""Encodings that descriptors name, and the codecs for them: a list, since the registry of codecs
also holds what is not an encoding of text.

Source: the note, "The Descriptor File": ``encoding`` names one as ICU does, ``windows-1252``,
``GBK``, ``Shift_JIS``, ``Big5``. Of two that differ in what they can hold the larger one is taken.
"""

from __future__ import annotations

import re

_CODECS = {
    "gb18030": "gbk gb2312 gb18030 cp936 windows936 ms936 euccn gb231280 xgbk ibm1386 ibm936",
    "cp950": "big5 cp950 windows950 ms950 big5tw xbig5 ibm1370",
    "big5hkscs": "big5hkscs",
    "cp932": "shiftjis sjis cp932 windows932 windows31j ms932 mskanji xsjis cswindows31j ibm943",
    "euc_jp": "eucjp ujis xeucjp",
    "cp949": "euckr cp949 windows949 ms949 uhc ksc56011987 ksc5601 ibm1363 ibm949",
    "cp874": "cp874 windows874 tis620 iso885911",
    "utf-8": "utf8 unicode11utf8 cp65001",
    "ascii": "ascii usascii ansix341968 iso646us",
    "utf-16": "utf16 ucs2 unicode",
    "utf-16-le": "utf16le ucs2le",
    "utf-16-be": "utf16be ucs2be",
    "koi8_r": "koi8r koi8",
    "koi8_u": "koi8u",
    "mac_roman": "macintosh macroman",
    "latin_1": "latin1 l1 iso88591 cp819",
    "iso8859_15": "latin9 iso885915",
}
_ALIASES = {alias: codec for codec, names in _CODECS.items() for alias in names.split()}
_PAGES = re.compile(r"(?:cp|windows|ibm|ms|dos)?(125[0-8]|437|720|737|775|85[02578]|86[0-69])")
_ISO = re.compile(r"iso8859([2-9]|1[0-46])")


def codec_named(name: str) -> str | None:
    """Return the codec for an encoding's name in any spelling; ``None`` for an unknown one."""
    plain = re.sub("[^a-z0-9]", "", name.lower())
    if plain in _ALIASES:
        return _ALIASES[plain]
    if (found := _PAGES.fullmatch(plain)) is not None:
        return f"cp{found[1]}"
    if (found := _ISO.fullmatch(plain)) is not None:
        return f"iso8859_{found[1]}"
    # ICU names some by their tables, such as ibm-943_P15A-2003 and windows-936-2000.
    short = re.match(r"(?:ibm|windows|cp)\d{3,5}(?=p|2000|1998)", plain)
    return None if short is None else codec_named(short[0])
