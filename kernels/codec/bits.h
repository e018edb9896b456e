// Bytes and bits of a blob. Reads never leave the blob, whatever its bytes say.
#pragma once

#include "format.h"

// A blob being read.
struct CpBlob {
    const uint8_t *at;
    uint32_t bytes;
};

// Eight bytes from `byte` on; what is behind the blob counts as zero.
CP_FN uint64_t cp_read8(const CpBlob &blob, uint32_t byte) {
    uint64_t out = 0;
#ifdef __CUDACC__
    // Blobs are aligned to 16 bytes and as long as a multiple of it.
    const uint32_t word = byte & ~3u, shift = byte % 4 * 8;
    const uint32_t *at = (const uint32_t *)(blob.at + word);
    uint32_t w[3];
    for (uint32_t i = 0; i < 3; i++) w[i] = word + 4 * i < blob.bytes ? at[i] : 0;
    out = (uint64_t)__funnelshift_r(w[1], w[2], shift) << 32 | __funnelshift_r(w[0], w[1], shift);
#else
    if (byte + 8 <= blob.bytes)
        memcpy(&out, blob.at + byte, 8);
    else if (byte < blob.bytes)
        memcpy(&out, blob.at + byte, blob.bytes - byte);
#endif
    return out;
}

// `count` bits, at most 57, from `bit` on.
CP_FN uint64_t cp_read_bits(const CpBlob &blob, uint32_t bit, uint32_t count) {
    return cp_read8(blob, bit / 8) >> bit % 8 & ((1ull << count) - 1);
}

CP_FN uint32_t cp_lowest(uint32_t bits) {
#ifdef __CUDACC__
    return __ffs(bits) - 1;
#else
    return (uint32_t)__builtin_ctz(bits);
#endif
}

CP_FN uint32_t cp_read4(const CpBlob &blob, uint32_t byte) { return (uint32_t)cp_read8(blob, byte); }

// Four of the eight bytes of a and b, as the nibbles of `selector` say (low bits: a).
CP_FN uint32_t cp_prmt(uint32_t a, uint32_t b, uint32_t selector) {
#ifdef __CUDACC__
    // Not __byte_perm: that masks the selector first, which needs no masking here.
    uint32_t out;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(out) : "r"(a), "r"(b), "r"(selector));
    return out;
#else
    const uint64_t both = (uint64_t)b << 32 | a;
    uint32_t out = 0;
    for (uint32_t i = 0; i < 4; i++) out |= (uint32_t)(both >> (selector >> 4 * i & 7) * 8 & 255) << 8 * i;
    return out;
#endif
}

// Bit 0 of each of `count` codes of `bits` bits.
CP_FN uint64_t cp_each_of(uint32_t count, uint32_t bits) {
    uint64_t out = 0;
    for (uint32_t i = 0; i < count; i++) out |= 1ull << i * bits;
    return out;
}

// The lowest `count` bits, from 1 to 64.
CP_FN uint64_t cp_low(uint32_t count) { return ~0ull >> (64 - count); }

// Of the codes that `each` has bit 0 of, those with all bits set.
CP_FN uint64_t cp_all_ones(uint64_t codes, uint32_t bits, uint64_t each) {
    for (uint32_t i = 1; i < bits; i++) each &= codes >> i;
    return codes & each;
}

// Bits being written by one lane, one after another, from a whole byte on. Flushes whole bytes only;
// `end` writes the rest. Nobody else writes the same bytes.
struct CpWriter {
    uint8_t *at;
    uint64_t held;
    uint32_t bits;

    CP_FN CpWriter to(uint8_t *at) { return {at, 0, 0}; }
    CP_FN void put(CpWriter &w, uint64_t value, uint32_t count) {
        w.held |= value << w.bits;
        w.bits += count;
        while (w.bits >= 8) {
            *w.at++ = (uint8_t)w.held;
            w.held >>= 8;
            w.bits -= 8;
        }
    }
    CP_FN void end(CpWriter &w) {
        if (w.bits > 0) *w.at++ = (uint8_t)w.held;
    }
};

// Sets `count` bits, at most 32, at `bit` of words that were zero; other lanes may set others of the same
// words.
CP_FN void cp_or_bits(uint32_t *words, uint32_t bit, uint32_t value, uint32_t count) {
    if (count == 0) return;
    const uint32_t shift = bit % 32;
#ifdef __CUDACC__
    atomicOr(&words[bit / 32], value << shift);
    if (shift + count > 32) atomicOr(&words[bit / 32 + 1], value >> (32 - shift));
#else
    words[bit / 32] |= value << shift;
    if (shift + count > 32) words[bit / 32 + 1] |= value >> (32 - shift);
#endif
}

CP_FN void cp_store8(uint8_t *at, uint64_t bytes) { memcpy(at, &bytes, 8); }

// Eight codes of a stream, those from position `p` on.
CP_FN uint64_t cp_codes(const CpBlob &blob, uint32_t stream, uint32_t p, uint32_t bits) {
    return cp_read8(blob, stream + p / 8 * bits) & ((1ull << 8 * bits) - 1);
}
