#!/usr/bin/env python3
"""Does every way to the driver lead through coldpress? Asked of real clients, one process each.

usage: lookups.py --bin FOLDER [--driver FILE]

--driver is the real driver for coldpress to use (the simulator); otherwise it finds it itself.
Prints one JSON document. For each client: is it installed, which files called libcuda are mapped,
where dlopen, dlsym and cuGetProcAddress lead, and whether coldpress counted at least the
operations that the client is known to have made.
"""

import argparse
import ctypes
import json
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path

OPERATIONS = 1000
# What a launch, a copy or an allocation can be looked up as; base name and version, as clients ask.
NAMES = [
    ("cuInit", 2000), ("cuGetProcAddress", 11030), ("cuGetProcAddress", 12000),
    ("cuMemAlloc", 3020), ("cuMemFree", 3020), ("cuMemAllocPitch", 3020), ("cuMemAllocAsync", 11020),
    ("cuMemFreeAsync", 11020), ("cuMemAllocManaged", 6000), ("cuMemGetInfo", 3020),
    ("cuLaunchKernel", 4000), ("cuLaunchKernelEx", 11060), ("cuLaunchCooperativeKernel", 9000),
    ("cuMemcpyHtoDAsync", 3020), ("cuMemcpyDtoHAsync", 3020), ("cuMemcpyDtoDAsync", 3020),
    ("cuMemcpyAsync", 4000), ("cuMemcpy2DAsync", 3020), ("cuMemsetD8Async", 3020),
    ("cuMemsetD32Async", 3020), ("cuGraphLaunch", 10000), ("cuStreamBeginCapture", 10010),
    ("cuPointerGetAttribute", 4000), ("cuPointerGetAttributes", 7000), ("cuMemGetAddressRange", 3020),
    ("cuMemCreate", 10020), ("cuMemMap", 10020), ("cuMemUnmap", 10020), ("cuMemSetAccess", 10020),
    ("cuStreamCreate", 2000), ("cuStreamDestroy", 4000), ("cuEventRecord", 2000),
]


def clients():
    """Clients by name; each imports itself, does OPERATIONS things, and names what they were."""
    return {
        "ctypes": with_ctypes,
        "torch": with_torch,
        "cublaslt": with_cublaslt,
        "triton": with_triton,
        "jax": with_jax,
    }


def with_ctypes():
    cuda = ctypes.CDLL("libcuda.so.1")

    def call(name, *arguments):
        result = getattr(cuda, name)(*arguments)
        if result:
            raise RuntimeError(f"{name}: {result}")

    call("cuInit", 0)
    context, at = ctypes.c_void_p(), ctypes.c_uint64()
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
    call("cuCtxSetCurrent", context)
    # The one client without kernels: it allocates.
    for _ in range(OPERATIONS):
        call("cuMemAlloc_v2", ctypes.byref(at), ctypes.c_size_t(1 << 20))
        call("cuMemsetD8Async", at, ctypes.c_ubyte(1), ctypes.c_size_t(4096), None)
        call("cuMemFree_v2", at)
    call("cuCtxSynchronize")
    return "allocations"


def with_torch():
    import torch

    x = torch.zeros(1 << 20, device="cuda")
    for _ in range(OPERATIONS):
        x.add_(1)
    if not bool((x == OPERATIONS).all()):
        raise RuntimeError("wrong sum")
    return "launches"


def with_cublaslt():
    import torch

    torch.backends.cuda.preferred_blas_library("cublaslt")
    a = torch.eye(256, device="cuda", dtype=torch.float16)
    bias = torch.zeros(256, device="cuda", dtype=torch.float16)
    for _ in range(OPERATIONS):
        a = torch.addmm(bias, a, a)
    if not bool((a == torch.eye(256, device="cuda", dtype=torch.float16)).all()):
        raise RuntimeError("wrong product")
    return "launches"


def with_triton():
    import importlib.util
    import tempfile

    import torch

    # Triton reads a kernel's source from a file.
    source = (
        "import triton, triton.language as tl\n"
        "@triton.jit\n"
        "def add(p, n, B: tl.constexpr):\n"
        "    i = tl.program_id(0) * B + tl.arange(0, B)\n"
        "    tl.store(p + i, tl.load(p + i, mask=i < n) + 1, mask=i < n)\n"
    )
    with tempfile.NamedTemporaryFile("w", suffix=".py", delete=False) as file:
        file.write(source)
    spec = importlib.util.spec_from_file_location("lookups_kernel", file.name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    x = torch.zeros(1 << 16, device="cuda")
    for _ in range(OPERATIONS):
        module.add[(64,)](x, x.numel(), B=1024)
    if not bool((x == OPERATIONS).all()):
        raise RuntimeError("wrong sum")
    return "launches"


def with_jax():
    os.environ.setdefault("XLA_PYTHON_CLIENT_ALLOCATOR", "platform")
    import jax
    import jax.numpy as jnp

    if jax.default_backend() != "gpu":
        raise ImportError("jax has no GPU backend here")
    step = jax.jit(lambda x: x + 1)
    x = jnp.zeros(1 << 16)
    for _ in range(OPERATIONS):
        x = step(x)
    if float(x[0]) != OPERATIONS:
        raise RuntimeError("wrong sum")
    return "launches"


class Info(ctypes.Structure):
    _fields_ = [
        ("file", ctypes.c_char_p), ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p), ("address", ctypes.c_void_p),
    ]


def owner(address):
    """The file an address belongs to."""
    info = Info()
    found = ctypes.CDLL(None).dladdr(ctypes.c_void_p(address), ctypes.byref(info))
    return info.file.decode() if found and info.file else None


def opened(name):
    """Where cuInit of a library that is loaded already leads; None if nothing of that name is."""
    try:
        library = ctypes.CDLL(name, mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
    except OSError:
        return None
    return owner(ctypes.cast(library.cuInit, ctypes.c_void_p).value)


def resolved():
    """Where the resolver leads for each name, plain and per-thread."""
    cuda = ctypes.CDLL("libcuda.so.1")
    outside, absent = [], []
    for name, version in NAMES:
        for flags in (0, 2):
            at, status = ctypes.c_void_p(), ctypes.c_int()
            result = cuda.cuGetProcAddress_v2(
                name.encode(), ctypes.byref(at), version, ctypes.c_uint64(flags), ctypes.byref(status)
            )
            file = owner(at.value) if result == 0 and at.value else None
            if file is None:
                absent.append(f"{name}@{version} flags {flags}")
            elif "libcoldpress" not in file:
                outside.append({"name": name, "version": version, "flags": flags, "file": file})
    return {"asked": 2 * len(NAMES), "outside_of_coldpress": outside, "absent": absent}


def counted(folder):
    """What coldpress has counted in this process."""
    # Its page is written from time to time.
    time.sleep(1.5)
    done = subprocess.run(
        [folder / "coldpress", "stat", str(os.getpid()), "--json"],
        capture_output=True, text=True, env={k: v for k, v in os.environ.items() if k != "LD_PRELOAD"},
    )
    try:
        process = json.loads(done.stdout)["processes"][0]
    except (ValueError, KeyError, IndexError):
        return {"error": done.stderr.strip() or done.stdout[:300]}
    counters = process["counters"]
    return {
        "launches": counters["launches"],
        "allocations": counters["allocations"],
        "eviction_off": process["eviction_off"],
        "passthrough": process["passthrough"],
    }


def child(name, folder):
    """One client in this process."""
    try:
        unit = clients()[name]()
    except ImportError as missing:
        return {"client": name, "installed": False, "why": str(missing)}
    except Exception:  # A client may fail in any way; that is a result.
        return {"client": name, "installed": True, "failed": traceback.format_exc()[-2000:]}
    with open("/proc/self/maps", encoding="utf8") as maps:
        files = {line.split()[-1] for line in maps if "libcuda." in line or "libcoldpress" in line}
    said = {
        "client": name,
        "installed": True,
        "mapped": sorted(files),
        "libcuda.so.1": opened("libcuda.so.1"),
        "libcuda.so": opened("libcuda.so"),
        "resolver": resolved(),
        "expected": {unit: OPERATIONS},
        "counted": counted(folder),
    }
    ours = [said["libcuda.so.1"], said["libcuda.so"]]
    said["all_through_coldpress"] = (
        all(file is None or "libcoldpress" in file for file in ours)
        and not said["resolver"]["outside_of_coldpress"]
        and said["counted"].get(unit, 0) >= OPERATIONS
    )
    return said


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--bin", type=Path, required=True)
    options.add_argument("--driver", type=Path)
    options.add_argument("--client", choices=clients())
    chosen = options.parse_args()
    folder = chosen.bin.resolve()
    if chosen.client:
        print(json.dumps(child(chosen.client, folder)))
        return 0
    environment = dict(os.environ, LD_PRELOAD=str(folder / "libcoldpress.so"), COLDPRESS_MODE="rescue")
    if chosen.driver:
        environment["COLDPRESS_REAL_LIBCUDA"] = str(chosen.driver.resolve())
    rows = []
    for name in clients():
        command = [sys.executable, __file__, "--bin", str(folder), "--client", name]
        try:
            done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=90)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
        except subprocess.TimeoutExpired:
            rows.append({"client": name, "installed": True, "failed": "stopped after 90 s"})
        except (ValueError, IndexError):
            ended = f"ended with {done.returncode}: {done.stderr[-1500:]}"
            rows.append({"client": name, "installed": True, "failed": ended})
    asked = [row for row in rows if row["installed"]]
    good = all(row.get("all_through_coldpress") for row in asked)
    print(json.dumps({"all_through_coldpress": good, "clients": rows}))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
