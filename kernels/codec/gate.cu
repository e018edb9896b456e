// The inner loops of the fast paths, each in a kernel of its own, for scripts/kernel-counts; not shipped.
#include "pack.h"

extern "C" __global__ void __maxnreg__(40)
    cp_gate_decode_t23(const uint8_t *blob, uint32_t bytes, const uint32_t *starts, uint32_t tiles,
                       const CpFast *palettes, uint8_t *out, uint32_t *hashes) {
    __shared__ CpShared shared;
    const CpBlob b = {blob, bytes};
    const CpFast fast = *palettes;
    cp_fast_t_table(&shared);
    Lane<uint32_t> hash[4] = {{0}, {0}, {0}, {0}};
    CP_ROLLED
    for (uint32_t t = 0; t < tiles; t++) {
        if (cp_fast_t<3, false>(b, starts[t], starts[t + 1], fast, &shared, hash, out + 4096 * t) != CP_DONE) return;
    }
    hashes[0] = cp_fast_hash(hash, 4096 * tiles);
}

extern "C" __global__ void __maxnreg__(40)
    cp_gate_decode_f4(const uint8_t *blob, uint32_t bytes, const uint32_t *starts, uint32_t tiles,
                      const uint8_t *palette, uint8_t *out, uint32_t *hashes) {
    __shared__ CpShared shared;
    const CpBlob b = {blob, bytes};
    cp_fast_f_table(palette, &shared);
    Lane<uint32_t> hash[4] = {{0}, {0}, {0}, {0}};
    CP_ROLLED
    for (uint32_t t = 0; t < tiles; t++) {
        if (!cp_fast_f(b, starts[t], starts[t + 1], &shared, hash, out + 4096 * t)) return;
    }
    hashes[0] = cp_fast_hash(hash, 4096 * tiles);
}

extern "C" __global__ void __maxnreg__(72)
    cp_gate_encode_t23(const uint8_t *in, uint32_t tiles, const CpField *field, uint8_t *out, uint32_t *hashes) {
    __shared__ CpPacking shared;
    cp_pack_tables(*field, &shared);
    Lane<uint32_t> hash[4] = {{0}, {0}, {0}, {0}};
    uint32_t at = 0;
    CP_ROLLED
    for (uint32_t t = 0; t < tiles; t++) {
        const uint32_t bytes = cp_pack_t<3>(in + 4096 * t, hash, &shared, out + at, CP_PAGE - at);
        if (bytes == 0) return;
        at += bytes;
    }
    hashes[0] = cp_fast_hash(hash, 4096 * tiles);
}
