"""Compressed streams are undone in bounded steps, and broken ones say where they broke."""

import bz2
import gzip
import lzma
import random
import sys

import pytest

from cdf_upsert.sources.compression import (
    OUTPUT_STEP,
    CorruptStreamError,
    Decompressor,
    sniff,
    undecided,
)
from tests.sources.feeding import cut

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def zstd_compress(data):
    return zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1})


COMPRESS = {"gzip": gzip.compress, "zstd": zstd_compress, "bzip2": bz2.compress, "xz": lzma.compress}
DATA = b"".join(b'{"n":%d}\n' % random.Random(number).getrandbits(64) for number in range(20_000))

every = pytest.mark.parametrize("name", COMPRESS)


def undo(stored, pieces):
    """All that comes out, and the error in the end."""
    compression = sniff(stored)
    assert compression is not None
    decompressor, out = Decompressor(compression), []
    try:
        for piece in pieces:
            for part in decompressor.feed(piece):
                assert 0 < len(part) <= OUTPUT_STEP
                out.append(part)
        decompressor.finish()
    except CorruptStreamError as error:
        return b"".join(out), error, decompressor
    return b"".join(out), None, decompressor


@every
@pytest.mark.parametrize("step", [1, 1000, 10_000_000])
def test_a_stream_is_undone(name, step):
    """However it is cut, a compressed stream gives the bytes that went in."""
    data = DATA[:5000] if step == 1 else DATA
    stored = COMPRESS[name](data)
    assert sniff(stored).name == name
    out, error, decompressor = undo(stored, cut(stored, range(0, len(stored), step)))
    assert (out, error) == (data, None)
    assert (decompressor.taken, decompressor.given) == (len(stored), len(data))


@every
@pytest.mark.parametrize("step", [1, 37, 10_000_000])
def test_members_in_a_row_are_one_stream(name, step):
    """Several members, padded with zeros or not, give what they hold one after the other."""
    compress = COMPRESS[name]
    stored = compress(b"one") + compress(b"") + b"\0" * 8 + compress(b"two" * 1000) + b"\0" * 4
    assert undo(stored, cut(stored, range(0, len(stored), step)))[:2] == (b"one" + b"two" * 1000, None)


@every
@pytest.mark.parametrize("keep", [0.2, 0.5, 0.999])
@pytest.mark.parametrize("step", [1, 10_000_000])
def test_a_stream_that_is_cut_short(name, keep, step):
    """Of a stream that ends too early comes what can be had of it, and the bytes at which it ends, in both counts."""
    data = DATA[:20_000] if step == 1 else DATA
    stored = COMPRESS[name](data)
    stored = stored[: int(len(stored) * keep)]
    out, error, _ = undo(stored, cut(stored, range(0, len(stored), step)))
    assert data.startswith(out)
    if name == "gzip":
        assert len(out) > len(data) * keep * 0.5
    assert str(error) == (
        f"the {name} stream ends too early, at compressed byte {len(stored):,}, "
        f"which is byte {len(out):,} of what it holds"
    )


@every
def test_a_stream_that_is_spoilt(name):
    """A byte that is changed in the middle is found, what came before is given, and the place is told."""
    stored = bytearray(COMPRESS[name](DATA))
    for at in range(len(stored) // 2, len(stored) // 2 + 40):
        stored[at] ^= 0xFF
    out, error, decompressor = undo(stored, [bytes(stored)])
    assert str(error).startswith(f"the {name} stream is broken (")
    assert f"compressed byte {decompressor.taken:,}" in str(error)
    assert f"byte {len(out):,} of" in str(error)
    assert decompressor.taken <= len(stored)


@every
@pytest.mark.parametrize("step", [1, 10_000_000])
def test_something_else_behind_the_end(name, step):
    """What is no member behind the last one is told with the byte at which it begins."""
    member = COMPRESS[name](b"one")
    for behind in (b"garbage, long", b"g", member[:2]):
        stored = member + behind
        out, error, _ = undo(stored, cut(stored, range(0, len(stored), step)))
        assert out == b"one"
        assert f"the {name} stream has something else behind its end, at compressed byte" in str(error)
        if behind != member[:2]:
            assert f"compressed byte {len(member)}," in str(error)


@every
def test_a_bomb_comes_out_in_small_steps(name):
    """A few bytes that hold very many give them step by step, never at once."""
    stored = COMPRESS[name](b"0" * 30_000_000)
    assert len(stored) < 100_000
    assert undo(stored, [stored])[0] == b"0" * 30_000_000


@every
def test_the_first_bytes_tell(name):
    """A stream is known by its first bytes, and fewer than these leave it open."""
    stored = COMPRESS[name](b"x")
    magic = sniff(stored).magic
    for end in range(len(magic)):
        assert undecided(stored[:end])
        assert sniff(stored[:end]) is None
    assert not undecided(stored)


@pytest.mark.parametrize("head", [b"{", b"[", b'{"a":1}', b"\xef\xbb\xbf", b"\n", b"Bz{", b"\xff\xfe"])
def test_plain_bytes_are_told_at_once(head):
    """Plain inputs are not waited for, and not taken for compressed."""
    assert sniff(head) is None
    assert not undecided(head)
