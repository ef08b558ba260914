"""A small real volume: the parts of it that a reader looks at, so that no tools are needed.

Made of 1.5 MiB by ``mkntfs -c 512 -L "a small volume"`` and, through ntfs-3g, by writing
pagefile.sys (16 KiB of zeros, in turns with another file), hiberfil.sys (8 KiB of zeros),
swapfile.sys (6,000 zeros), 30 empty files with long names and a folder. The journal is full of
ones; what is not kept (user data, $UpCase, records of the empty files) is zero here.
"""

from __future__ import annotations

import base64
import lzma

SIZE = 3072 * 512
CLUSTER, CLUSTERS, RECORD = 512, 3071, 1024
FREE = 1420
PAGING = {"pagefile.sys": 64, "hiberfil.sys": 66, "swapfile.sys": 67}
"""Records of the files; together they have 60 clusters."""
BOOT, MFT, BITMAP, MIRROR, JOURNAL = 0, 32 * 512, 437 * 512, 1535 * 512, 1543 * 512
JOURNAL_BYTES = 512 * 512
ROOT_NODES = (424 * 512, 2147 * 512, 2155 * 512)
LEAF = ROOT_NODES[2]
"""The node that the names of the files are in; the end of the index's root leads to it."""
NODE = 4096
PIECES = (
    (BOOT, 512),
    (MFT, 16 * RECORD),
    (MFT + 64 * RECORD, 4 * RECORD),
    (ROOT_NODES[0], NODE),
    (BITMAP, 512),
    (MIRROR, 4 * RECORD),
    (ROOT_NODES[1], 2 * NODE),
)
"""(offset, bytes) of the parts, ascending."""


def parts() -> bytes:
    """The parts, one behind the other."""
    return lzma.decompress(base64.b85decode(_PARTS))


def small_volume() -> bytearray:
    """The volume."""
    volume, data, at = bytearray(SIZE), parts(), 0
    for offset, length in PIECES:
        volume[offset : offset + length] = data[at : at + length]
        at += length
    volume[JOURNAL : JOURNAL + JOURNAL_BYTES] = b"\xff" * JOURNAL_BYTES
    return volume


_PARTS = (
    "T>t<81poj4|NsC0{{VHAjs)VMar6VJ^U0G@vxo391|vWJLvji8b7IfA8}#;NE}SL*ZzAT6=M*J8L4vf^nyAsqd?PPGm2"
    "6kV$G-b>SmIl+-"
    "`CQ@Jt8G3X&Ns2ialwwk#+~itm~B!Cfe>w=fUpgeb6Zo2KH;?NM*2Y#lYK}m~B3nJ7X8($=&7ii)Ch^KMfapV&VPhPpL"
    "~p_{I`{Dr}EbEZDZv&}XiGOHVhhAgLRjCT%ztmD3xq9T%w4b9kaQm6?CFf$sLWTU-YSH1Td{%@7ua@c8MY48{ZR&zs$_"
    "XbVmib<Udn76epE+A>=60GzFP<YGDMfx`OnHB+UU-18`jF!7%r)17t)-"
    "zG=y%rI|*lR5EJh)LW@>s3Ygu1s!85tG2BjsOU@W%XxNj(3i~oCR!=LYGI>wSkaJq+HPx7jpBR{1l#%OMpg8m1LrETqK"
    "#q0PI+?&$Cn@kX<5nsApkeVt<<aMTt$-W&-HMp*bYO2bC!=gWu`er9b81(1=6ZE9E4wh2&m(^DxzI-"
    "&Wx+hKSY<N=q?n_nEttBCL%C9+#s%!U!8~&VP^111GddzlMgD#jrXK_~lw(XccK?7wQB2bSE%f8Oea6rT!Qq6Cf4IF(>"
    ";wZ2@y@5|Yw+<r{8vvYHAgCz>0a!HV@bInwu`?=!r&m}yV2+9?9i6&fLYf9ge;mrk{1C_?@n$YrMP$bt4mGkg~P1BV_}"
    "+2KQxZB~2AGH^bP6yN4zUVdxTy5~GDbbdyYg|8AcVS>YnGL~J$N8!i`1^(FGR4jzpT8KA}!JdXdBH&~5QGM8&mPIBOT^"
    "|h5(%rCurc69%iSTvY^5NiqA<V?Nx0eLuS7pgZo3(?!5D*l|XpxJLWej+@!1-"
    "tJGMT2pK0amzIfKq|^qqPKKJ#|*e&7C|7|BvWuwo$Kd|h8^(9)u@t<%oN9QLV7eUYX(>hULs>k_NGj6J0rPrLZlVZ_Uw"
    "6QoU5XO@8aI>UDu$F&`>xoVMA1`GJ3Ptn=rPuK}tJ}HcURcOq06XGXc--r0-"
    "_Z04UQt<Nq?>Eg@cMdm=OzlN_7ZXS<`Kh942@vO7X?l!CPW_xr)<@R70}NCQgbqm0O8_*j7`}&zut{nn2mOFO&2re?EG"
    "bvKeoEmTq5X>t8>Nv%q5{h<_AAN<_nj$&55SABsQ#ZNs&2*?YPRqE6o}Pm5oX*RLyb(S)ch)twg2E5bvW7s0mlv-"
    "X)@C)!kw{A`Cf7OSH)`D%^q&!F3JC-yAJuj_veL6rWaJd<<>F)$tj11L2M{}X^hF*<xnmD`iR#BE1rf|VDF??DYzS{jL"
    "H)P#B-"
    "fD>NG{t7stYP1Njrp6Owj<$7v*qWv#vk_(iI27yo8sGoCc6TdjfA#VKAbJHg|JUGT&U<g#N{Il+`ClWqPz%is!Axgx6C"
    "mP|)paa6cRdOq&Wxt!*FA>nj9iQe_y2=M-%sn$^F!}iTX`j=dx<ZQ><0cm`ikw|Apd3-"
    "|Z8k0_F2<6lx`y=B*8wz%pQ)Lqa59OQDx{a1YzKhs+F~L_pp@}p&M#d>C)4aSX<cNDtudgy<?r_??(!DI)E^h_~fK*<="
    "ZrfRgc6pBJfGsu?DcC2WVjlb<w!a-"
    "#l%?6>`<P}P1UAQ`e+mo!n2Fs(5cL%9j*OQM1R11t(=N|5yg7@C|By;}SA7?zqJ0lIgMp>>gR}|uHIRXOX0xXyzu#Za_"
    "7aDrh9&1}9NB+eu`)NAvN{)$a5uDHWcmA2g<vI40|b}}YLH8}DZa5lW>$=e&?@3QuGh>5dx(fOV(a)ktMBpR73vB{0SN"
    "k4XfQ?qnh%^*3CY;C4vp?Y`zN$BiL_3I)2+OXbOpgeX2t)H*7b_4L|h+W0bC5fqk5gkGUUhRE%fL@>}10-"
    "AKs$Yj|Ho<Jy5$^Yd#ztc-"
    "a)#abBcJFlE4M$#m#78Pke~<xQyWR14rrMD*6$O;}nR**y{THa+RzLO7>QWK)L32hDXyci+(fA#7#Cua1bB?wrldwqI-"
    "j9w}bI!0omSs{Bs~$34F{aa49?Mz;~Ce-"
    "M#B4M~}>r86;o>gsa~nbe(tR#}c7e7TAiWuk5dgK|2Zyu5Pjseuww3xBR<(*?j!?kcl&VkvMlg%{7*#h^exckU3tQwE%"
    "^0{U5!bjGxV)E_t>9Y<rnb<XgIN3TfU#CHlOx+r3#{z4~s7h99Ha(^Szm=DluXowjFcd2048ZR(-"
    "dn_4}c>swdQ&`Tr4fuG$$u5jWF7T;UiIe|&6bml~W4)mw9lM;`Q^t1J5VBD|Q+jn!cF^U~@mFigL!fw_!M|()-"
    "e8V{Hg?mXo>y|6>T-"
    "{XbqY(|GST14>Gs_hD3?y}b8COH6`l7WoE}&}Y0oASrj85oBHa0wc4SwVCN}M68w@{uFxy`i80;Ts^p=bJR=Ti^0O0Mt"
    "^nzbCwVnBj8<W;QS$(7Q-"
    ">Uaya3muCzf2WGznn3;Pe7Iz{x#ef5*u!AQXzcPOhvS1cY|SM=AF7yVy~0i%vcxIDAF|b24}L+#RU4Fz4s`A!>C94)l{"
    "{H6B<M4w)##x8>dhQaP5vQLDsCOeB!?Pt!^$_MYLijGAW0x<x|WkpH*OY>Nf3M5`Ooc1H(K(Q5=8KaiB~{$5y4eC<>Gj"
    "$+<`f%-"
    "6K9`bBtN*3?qmrC>0*Mwm;GftTVI{8#r_qjH{+r}?R<PHo$29oQX|g54E|EwI>3Lw}M8SJjP8&3P<xOc$2G=`U*{V%y$"
    "s1ybj6!h1DgPk86#Fa)wA>B9}<r4Mxw9y+K@AEXIP(9`DfH@EQY<=#;)<(ukT_PAYy_Gy=|)}v2|Y~jBEeYu$8@G5b%"
)
