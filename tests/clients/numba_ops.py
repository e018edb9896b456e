#!/usr/bin/env python3
"""Memory operations of numba-cuda on whatever driver it finds, checked against numpy.

numba-cuda talks to the driver by itself, in its own order and style: a client nobody here wrote.
It gets by without the CUDA toolkit as long as nothing is compiled. The buffers together hold
twice --limit bytes and are touched in a changing order, so with a limit of that size half of
them is away at any time. Every read is compared with a copy kept on the host; the SHA-256 over
all that was read is printed and must not depend on who stands between numba and the driver.

usage: numba_ops.py [--limit SIZE] [--rounds N] [--seed N]
"""
import argparse
import gc
import hashlib
import sys

import numpy as np
from cuda.bindings import runtime

# numba-cuda asks for the toolkit's version when it is imported, and there is no toolkit: it is
# told the oldest one it knows. Nothing else of the runtime API is used.
runtime.getLocalRuntimeVersion = lambda: (runtime.cudaError_t.cudaSuccess, 13000)

from numba import cuda  # noqa: E402
from numba.cuda.cudadrv import driver  # noqa: E402


def size(text):
    for suffix, shift in (("KiB", 10), ("MiB", 20), ("GiB", 30)):
        if text.endswith(suffix):
            return int(text[: -len(suffix)]) << shift
    return int(text)


class Pool:
    """Device arrays and what they must contain."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.held = []  # [device array, expected numpy array]
        self.digest = hashlib.sha256()
        self.read_bytes = 0
        self.streams = [
            0,  # numba's default: the legacy stream
            cuda.stream(),
            cuda.stream(),
            cuda.per_thread_default_stream(),
            cuda.legacy_default_stream(),
        ]

    def stream(self):
        return self.streams[self.random.integers(len(self.streams))]

    def data(self, length):
        """Tensors in the manner of real ones: narrow exponents, small integers, zeros, noise."""
        kind = self.random.integers(4)
        if kind == 0:
            return self.random.normal(0, 0.02, length).astype(np.float32)
        if kind == 1:
            return self.random.integers(0, 50_000, length, dtype=np.int32)
        if kind == 2:
            return np.zeros(length, np.uint32)
        return self.random.integers(0, 2**32, length, dtype=np.uint32)

    def check(self, got, expected):
        if got.tobytes() != expected.tobytes():
            sys.exit(f"numba_ops: {got.nbytes} bytes read back differ from what was written")
        self.digest.update(got.tobytes())
        self.read_bytes += got.nbytes

    def pick(self):
        return self.held[self.random.integers(len(self.held))]


def upload(pool, length):
    """A new device array, by one of the ways numba has."""
    expected = pool.data(length)
    way = pool.random.integers(4)
    if way == 0:
        array = cuda.to_device(expected)
    elif way == 1:
        stream = cuda.stream()
        array = cuda.to_device(expected, stream=stream)
        stream.synchronize()
    elif way == 2:
        pinned = cuda.pinned_array(length, expected.dtype)
        pinned[:] = expected
        array = cuda.device_array(length, expected.dtype)
        stream = pool.streams[1]
        array.copy_to_device(pinned, stream=stream)
        stream.synchronize()
    else:
        array = cuda.device_array_like(expected)
        with cuda.pinned(expected):
            array.copy_to_device(expected)
    pool.held.append([array, expected])


def read(pool):
    """All of an array, or a slice, to the host."""
    array, expected = pool.pick()
    way = pool.random.integers(4)
    if way == 0:
        pool.check(array.copy_to_host(), expected)
    elif way == 1:
        out = cuda.pinned_array(expected.shape, expected.dtype)
        stream = pool.streams[2]
        array.copy_to_host(out, stream=stream)
        stream.synchronize()
        pool.check(out, expected)
    elif way == 2:
        out = np.empty_like(expected)
        array.copy_to_host(out)
        pool.check(out, expected)
    else:
        start, end = sorted(int(x) for x in pool.random.integers(0, len(expected) + 1, 2))
        if start < end:
            pool.check(array[start:end].copy_to_host(), expected[start:end])


def write_slice(pool):
    """New contents for a part of an array."""
    array, expected = pool.pick()
    start, end = sorted(int(x) for x in pool.random.integers(0, len(expected) + 1, 2))
    if start == end:
        return
    fresh = pool.data(end - start).view(np.uint32).view(expected.dtype)
    array[start:end].copy_to_device(fresh)
    expected[start:end] = fresh


def copy_between(pool):
    """Device to device, ordered between two streams by an event."""
    (to, expected), (source, content) = pool.pick(), pool.pick()
    length = min(len(expected), len(content))
    if to is source:
        return
    first, second = pool.streams[1], pool.streams[2]
    cuda.synchronize()
    to[:length].view(np.uint32).copy_to_device(source[:length].view(np.uint32), stream=first)
    event = cuda.event(timing=bool(pool.random.integers(2)))
    event.record(first)
    event.wait(second)
    driver.device_memset(to, 0x5C, 4, stream=second)
    event.synchronize()
    if not event.query():
        sys.exit("numba_ops: an event that was waited for has not passed")
    second.synchronize()
    bits = expected.view(np.uint32)
    bits[:length] = content[:length].view(np.uint32)
    bits[0] = 0x5C5C5C5C


def memset(pool):
    """A byte value over a whole array."""
    array, expected = pool.pick()
    value = int(pool.random.integers(256))
    stream = pool.stream()
    cuda.synchronize()
    driver.device_memset(array, value, array.nbytes, stream=stream)
    cuda.synchronize()
    expected.view(np.uint8)[:] = value


def replace(pool):
    """Frees an array and allocates another one."""
    index = int(pool.random.integers(len(pool.held)))
    length = len(pool.held[index][1])
    pool.held[index] = pool.held[-1]
    pool.held.pop()
    if pool.random.integers(4) == 0:
        cuda.current_context().memory_manager.deallocations.clear()
    upload(pool, max(1, length + int(pool.random.integers(-length // 4, length // 4 + 1))))


def timing(pool):
    """Events around a copy."""
    array, expected = pool.pick()
    stream = pool.streams[1]
    begin, end = cuda.event(), cuda.event()
    begin.record(stream)
    out = array.copy_to_host(stream=stream)
    end.record(stream)
    end.synchronize()
    if cuda.event_elapsed_time(begin, end) < 0:
        sys.exit("numba_ops: time ran backwards")
    pool.check(out, expected)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=size, default=32 << 20, metavar="SIZE")
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    context = cuda.current_context()
    info = context.get_memory_info()
    if not 0 < info.free <= info.total:
        sys.exit(f"numba_ops: {info.free} of {info.total} bytes free")
    pool = Pool(options.seed)
    held = 0
    while held < 2 * options.limit:
        # From a few words to an eighth of the limit, in octaves.
        length = (options.limit // 32) >> int(pool.random.integers(0, 12)) or 1
        length -= int(pool.random.integers(0, length // 2 + 1))
        upload(pool, length)
        held += 4 * length
    steps = [read, read, write_slice, copy_between, memset, replace, timing]
    for _ in range(options.rounds):
        steps[pool.random.integers(len(steps))](pool)
    order = pool.random.permutation(len(pool.held))
    for index in order:
        array, expected = pool.held[index]
        pool.check(array.copy_to_host(), expected)
    buffers, held = len(pool.held), sum(e.nbytes for _, e in pool.held)
    del array
    pool.held.clear()
    gc.collect()
    context.memory_manager.deallocations.clear()
    cuda.synchronize()
    print(f"sha256 {pool.digest.hexdigest()}  {buffers} buffers, {held} bytes held, "
          f"{pool.read_bytes} read back, {cuda.get_current_device().name}")
    cuda.close()


if __name__ == "__main__":
    main()
