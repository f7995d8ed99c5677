"""HDiffPatch as its PyPI package offers it: hdiffz -m with lzma2, level 9, a window of 16 MiB."""
import sys

import hdiffpatch

verb, first, second, made = sys.argv[1:]
first, second = (open(path, "rb").read() for path in (first, second))
if verb == "diff":
    packed = hdiffpatch.Lzma2Config(level=9, window=24, threads=2)
    out = hdiffpatch.diff(first, second, packed, validate=False, big_cache_match=True)
else:
    out = hdiffpatch.apply(first, second)
open(made, "wb").write(out)
