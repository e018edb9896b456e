// INTS: whole numbers, in groups of 128 with a base and a width of their own.
#pragma once

#include "bits.h"

// What a tile's groups are: widths and bases relative to `first`.
struct CpGroups {
    uint8_t width[CP_TILE / CP_GROUP];
    int64_t offset[CP_TILE / CP_GROUP];
    uint64_t first;
    uint32_t count, offset_bytes;
};

CP_FN uint32_t cp_bits_of(uint64_t x) {
#ifdef __CUDACC__
    return 64 - __clzll(x);
#else
    return x == 0 ? 0 : 64 - __builtin_clzll(x);
#endif
}

// A number of 8 * bytes bits with its sign.
CP_FN int64_t cp_signed(uint64_t x, uint32_t bytes) {
    return (int64_t)(x << (64 - 8 * bytes)) >> (64 - 8 * bytes);
}

// Bytes that hold the signed number: 0, 1, 2, 4 or 8.
CP_FN uint32_t cp_offset_bytes(int64_t x) {
    if (x == 0) return 0;
    for (uint32_t bytes = 1; bytes < 8; bytes *= 2)
        if (cp_signed((uint64_t)x, bytes) == x) return bytes;
    return 8;
}

// What a group holds for element i: the element, or with `delta` what it differs from the one before by.
template <class E>
CP_FN E cp_ints_value(const E *in, uint32_t i, bool delta) {
    return delta ? (i == 0 ? (E)0 : (E)(in[i] - in[i - 1])) : in[i];
}

// Looks at a tile. Without `delta` the groups' bases are distances from the least of all, in the order
// of signed or of unsigned numbers, whichever is closer together.
template <class E>
CP_SLOW void cp_ints_look(const E *in, uint32_t elements, bool delta, CpGroups *out) {
    const uint32_t width = sizeof(E);
    out->count = (elements + CP_GROUP - 1) / CP_GROUP;
    cp_sync();
    CP_EACH(g, out->count) {
        int64_t least = INT64_MAX, most = INT64_MIN;
        const uint32_t from = g * CP_GROUP + (delta && g == 0), to = cp_min(elements, (g + 1) * CP_GROUP);
        CP_ROLLED
        for (uint32_t i = from; i < to; i++) {
            const int64_t x = cp_signed(cp_ints_value(in, i, delta), width);
            least = x < least ? x : least;
            most = x > most ? x : most;
        }
        if (from >= to) least = most = 0;
        out->offset[g] = least;
        out->width[g] = (uint8_t)cp_bits_of((uint64_t)most - (uint64_t)least);
    }
    cp_sync();
    int64_t base = 0;
    if (!delta) {
        base = out->offset[0];
        CP_ROLLED
        for (uint32_t g = 1; g < out->count; g++) base = out->offset[g] < base ? out->offset[g] : base;
    }
    out->first = delta ? (uint64_t)in[0] : (uint64_t)base;
    out->offset_bytes = 0;
    CP_ROLLED
    for (uint32_t g = 0; g < out->count; g++) {
        const uint32_t bytes = cp_offset_bytes(cp_signed((uint64_t)out->offset[g] - (uint64_t)base, width));
        out->offset_bytes = bytes > out->offset_bytes ? bytes : out->offset_bytes;
    }
    cp_sync();
    CP_EACH(g, out->count) out->offset[g] = cp_signed((uint64_t)out->offset[g] - (uint64_t)base, width);
    cp_sync();
}

CP_FN uint32_t cp_ints_group_bytes(const CpGroups &groups, uint32_t g, uint32_t elements) {
    return cp_stream(cp_min(elements - g * CP_GROUP, CP_GROUP), groups.width[g]);
}

template <class E>
CP_SLOW uint32_t cp_ints_size(const CpGroups &groups, uint32_t elements) {
    uint32_t bytes = cp_pad(sizeof(E) + 1 + groups.count, 4) + cp_pad(groups.count * groups.offset_bytes, 4);
    CP_ROLLED
    for (uint32_t g = 0; g < groups.count; g++) bytes += cp_ints_group_bytes(groups, g, elements);
    return bytes;
}

// Writes the tile to `at`, which is zero as far as it goes.
template <class E>
CP_SLOW void cp_ints_encode(const E *in, uint32_t elements, bool delta, const CpGroups &groups, uint8_t *at) {
    CP_EACH(i, sizeof(E)) at[i] = (uint8_t)(groups.first >> 8 * i);
    CP_EACH(i, 1) at[sizeof(E)] = (uint8_t)groups.offset_bytes;
    CP_EACH(g, groups.count) at[sizeof(E) + 1 + g] = groups.width[g];
    at += cp_pad(sizeof(E) + 1 + groups.count, 4);
    CP_EACH(i, groups.count * groups.offset_bytes)
    at[i] = (uint8_t)((uint64_t)groups.offset[i / groups.offset_bytes] >> 8 * (i % groups.offset_bytes));
    at += cp_pad(groups.count * groups.offset_bytes, 4);
    CP_ROLLED
    for (uint32_t g = 0; g < groups.count; g++) {
        const uint32_t n = cp_min(elements - g * CP_GROUP, CP_GROUP), bits = groups.width[g];
        const uint64_t base = (uint64_t)groups.offset[g] + (delta ? 0 : groups.first);
        uint32_t *words = (uint32_t *)at;
        CP_EACH(i, n) {
            const uint32_t e = g * CP_GROUP + i;
            const E value = delta && e == 0 ? (E)0 : (E)(cp_ints_value(in, e, delta) - (E)base);
            cp_or_bits(words, i * bits, (uint32_t)value, cp_min(bits, 32));
            if (bits > 32) cp_or_bits(words, i * bits + 32, (uint32_t)((uint64_t)value >> 32), bits - 32);
        }
        at += cp_stream(n, bits);
    }
    cp_sync();
}

// Decodes the tile that stands from `at` to before `end`; false if it is none.
template <class E>
CP_SLOW bool cp_ints_decode(const CpBlob &blob, uint32_t at, uint32_t end, uint32_t elements, bool delta, E *out) {
    const uint32_t width = sizeof(E), groups = (elements + CP_GROUP - 1) / CP_GROUP;
    const uint32_t widths = at + width + 1, offsets = at + cp_pad(width + 1 + groups, 4);
    if (offsets > end) return false;
    const uint32_t k = cp_read4(blob, at + width) & 255;
    if (k > width || (k & (k - 1)) != 0) return false;
    const uint64_t first = cp_read_bits(blob, 8 * at, 8 * cp_min(width, 4)) |
                           (width == 8 ? (uint64_t)cp_read4(blob, at + 4) << 32 : 0);
    at = offsets + cp_pad(groups * k, 4);
    CP_ROLLED
    for (uint32_t g = 0; g < groups; g++) {
        const uint32_t n = cp_min(elements - g * CP_GROUP, CP_GROUP), bits = cp_read4(blob, widths + g) & 255;
        if (bits > 8 * width) return false;
        const uint32_t next = at + cp_stream(n, bits);
        if (next > end) return false;
        const int64_t offset = k == 0 ? 0 : cp_signed(cp_read8(blob, offsets + g * k), k);
        const uint64_t base = (uint64_t)offset + (delta ? 0 : first);
        CP_EACH(i, n) {
            const uint32_t bit = 8 * at + i * bits;
            uint64_t value = bits == 0 ? 0 : cp_read_bits(blob, bit, cp_min(bits, 32));
            if (bits > 32) value |= cp_read_bits(blob, bit + 32, bits - 32) << 32;
            out[g * CP_GROUP + i] = (E)(base + value);
        }
        at = next;
    }
    if (at > end) return false;
    cp_sync();
    if (!delta) return true;
    // Sums: each lane its own part, then what stands before it.
    const uint32_t per = (elements + 31) / 32;
    Lane<uint64_t> sum;
    CP_LANES(l) {
        uint64_t all = 0;
        CP_ROLLED
        for (uint32_t i = l * per; i < cp_min(elements, (l + 1) * per); i++) all += i == 0 ? first : (uint64_t)out[i];
        sum[l] = all;
    }
    cp_scan(sum);
    CP_LANES(l) {
        uint64_t x = sum[l];
        CP_ROLLED
        for (uint32_t i = l * per; i < cp_min(elements, (l + 1) * per); i++) {
            x += i == 0 ? first : (uint64_t)out[i];
            out[i] = (E)x;
        }
    }
    cp_sync();
    return true;
}
