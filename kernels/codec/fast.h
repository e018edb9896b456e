// Decoding of full tiles of 16-bit floats whose exponents are F(4) or T(2, b), in registers: what nearly every
// page of weights and activations is.
//
// The first field is raw. An output word holds two elements, each a byte of either field, rotated right by one.
// The page's hash is taken on the way: word w is of hash lane w % 32, so a lane that stores words 4l to 4l + 3 of
// every 128 has four sums, which cp_fast_hash puts together.
#pragma once

#include "warp.h"

enum : uint32_t { CP_HASH_STEP = 0x9E3779B1u, CP_HASH_FOLD = 0x6A09E667u };

// Elements of two bytes, rotated, whole.
enum : uint8_t { CP_FAST_LAYOUT = 5 };
enum : uint32_t { CP_AHEAD = CP_SECONDS / 2 + 160 };

CP_FN bool cp_fast_has(const CpCode &code) {
    return code.kind == CpCode::F ? code.a == 4 : code.kind == CpCode::T && code.a == 2 && code.b >= 2 && code.b <= 4;
}

// What is the same for all tiles of a page. Palettes are bytes of words.
struct CpFast {
    uint32_t first, second[4];
};

// Two output words of four elements: their bytes in the first field and in the second.
#define CP_JOIN_LOW 0x5140u
#define CP_JOIN_HIGH 0x7362u

CP_FN void cp_fast_put(Lane<uint32_t> (&hash)[4], uint32_t l, const uint32_t (&joined)[4], uint8_t *out) {
    const uint32_t step = CP_HASH_STEP, step4 = step * step * step * step;
    CpWords4 words;
    for (uint32_t i = 0; i < 4; i++) {
        words.x[i] = cp_funnel(joined[i], joined[i], 1);
        hash[i][l] = hash[i][l] * step4 + words.x[i];
    }
    *(CpWords4 *)out = words;
}

// The hash of a page of `len` bytes, all of it put out as above.
CP_FN uint32_t cp_fast_hash(Lane<uint32_t> (&hash)[4], uint32_t len) {
    const uint32_t step = CP_HASH_STEP;
    for (uint32_t i = 0; i < 4; i++) {
        // Lanes 8 apart have rows of the same hash lanes that follow each other.
        CP_LANES(l) hash[i][l] *= l < 8 ? step * step * step : l < 16 ? step * step : l < 24 ? step : 1;
        cp_add_lanes(hash[i], 8);
        cp_add_lanes(hash[i], 16);
    }
    uint32_t out = len;
    for (uint32_t lane = 0; lane < 32; lane++) out = out * CP_HASH_FOLD + cp_of_lane(hash[lane % 4], lane / 4);
    return out;
}

// Table for F(4): of two codes the symbols.
CP_FN void cp_fast_f_table(const uint8_t *palette, CpShared *shared) {
    cp_sync();
    CP_EACH(codes, 256) shared->by_codes[codes] = palette[codes & 15] | (uint32_t)palette[codes >> 4] << 8;
    cp_sync();
}

// Decodes a tile of F(4) at `start`; false if it does not end before `end`.
CP_FN bool cp_fast_f(const CpBlob &blob, uint32_t start, uint32_t end, const CpShared *shared,
                     Lane<uint32_t> (&hash)[4], uint8_t *out) {
    if (start + CP_TILE + CP_TILE / 2 > end) return false;
    CP_LANES(l) {
        const uint8_t *in = blob.at + start;
        uint8_t *to = out + 16 * l;
        CP_UNROLLED
        for (uint32_t half = 0; half < 2; half++, in += 1024, to += 2048) {
            const CpWords4 codes = cp_at<CpWords4>(in, CP_TILE - 1008 * half + 32 * l);
            CpWords2 raw[4];
            for (uint32_t i = 0; i < 4; i++) raw[i] = cp_at<CpWords2>(in + 8 * l, 256 * i);
            for (uint32_t i = 0; i < 4; i++) {
                uint32_t joined[4];
                for (uint32_t j = 0; j < 4; j++) {
                    const uint32_t symbols = cp_at<uint32_t>(shared->by_codes, cp_dot(codes.x[i], 4u << 8 * j, 0));
                    joined[j] = cp_prmt(raw[i].x[j / 2], symbols, j % 2 ? 0x5342u : CP_JOIN_LOW);
                }
                cp_fast_put(hash, l, joined, to + 512 * i);
            }
        }
    }
    return true;
}

// Table for T(2, b): by four first codes a selector that takes the symbols of the first tier from a palette of
// three and fills the gaps with those of the second, one after another; how many these are, in bytes of
// `seconds`, << 16.
CP_FN void cp_fast_t_table(CpShared *shared) {
    cp_sync();
    CP_EACH(codes, 256) {
        uint32_t selector = 0, next = 4;
        for (uint32_t i = 0; i < 4; i++) {
            const uint32_t code = codes >> 2 * i & 3;
            selector |= (code == 3 ? next++ : code) << 4 * i;
        }
        shared->by_codes[codes] = selector | (next - 4) * 4 << 16;
    }
    cp_sync();
}

// Eight codes of b bits, a nibble each.
template <uint32_t B>
CP_FN uint32_t cp_fast_nibbles(uint32_t codes) {
    if (B == 2) {
        codes = (codes & 0xFFu) | (codes & 0xFF00u) << 8;
        codes = (codes & 0x000F000Fu) | (codes & 0x00F000F0u) << 4;
        return (codes & 0x03030303u) | (codes & 0x0C0C0C0Cu) << 2;
    }
    if (B == 3) {
        codes = (codes & 0xFFFFFFu) + (codes & 0xFFF000u) * 15;
        codes += (codes & 0x0FC00FC0u) * 3;
        return codes + (codes & 0x38383838u);
    }
    return codes;
}

// Symbols of four codes.
template <uint32_t B>
CP_FN uint32_t cp_fast_second(const uint32_t (&palette)[4], uint32_t nibbles) {
    if (B < 4) return cp_prmt(palette[0], palette[1], nibbles);
    const uint32_t low = nibbles & 0x7777u, high = (nibbles & 0x8888u) >> 1;
    return cp_prmt(cp_prmt(palette[0], palette[1], low), cp_prmt(palette[2], palette[3], low), high | 0x3210u);
}

// The symbols of the second and the third tier of a tile, in order, to `seconds`: entry i + 4 holds those from i - 3
// to i, so that a lane gets its next four with one load. False if the third stream does not end before `end`. With
// NEAR the end of the blob may be nearer than what is read at most, CP_AHEAD bytes from `second` on.
template <uint32_t B, bool NEAR>
CP_FN bool cp_fast_seconds(const CpBlob &blob, uint32_t second, uint32_t misses, uint32_t end, const CpFast &fast,
                           CpShared *shared) {
    // What to add to a nibble so that one with all ones gets its top bit.
    const uint32_t ones = 0x11111111u * (8 - ((1u << B) - 1) % 8);
    uint32_t third = second + cp_stream(misses, B);
    // Of each lane: where its next eight codes start, how many bytes of the blob are left there; its entries; four
    // times the codes that are left to it.
    Lane<const uint8_t *> at;
    Lane<uint8_t *> entries;
    Lane<int32_t> bytes, valid;
    Lane<uint32_t> word, next;
    CP_LANES(l) {
        const uint32_t from = (second + B * l) & ~3u;
        word[l] = next[l] = 0;
        at[l] = blob.at + from;
        bytes[l] = (int32_t)(blob.bytes - from);
        entries[l] = (uint8_t *)shared->seconds + 16 + 32 * l;
        valid[l] = 4 * (int32_t)(misses - 8 * l);
    }
    CP_ROLLED
    for (int32_t left = (int32_t)misses + 3; left > 0; left -= 256) {
        Lane<uint32_t> low, high, escaped, rank;
        CP_LANES(l) {
            // Codes behind the last one are never used; they may be anything.
            if (!NEAR || bytes[l] >= 4) word[l] = cp_at<uint32_t>(at[l], 0);
            if (!NEAR || bytes[l] >= 8) next[l] = cp_at<uint32_t>(at[l], 4);
            const uint32_t nibbles = cp_fast_nibbles<B>(cp_funnel(word[l], next[l], B * 8 * l));
            low[l] = cp_fast_second<B>(fast.second, nibbles);
            high[l] = cp_fast_second<B>(fast.second, nibbles >> 16);
            escaped[l] = B == 4 ? nibbles & nibbles << 1 & nibbles << 2 & nibbles << 3 : nibbles + ones;
            escaped[l] &= ~cp_shift_left(~0u, valid[l] > 0 ? valid[l] : 0) & 0x88888888u;
            rank[l] = cp_popcount4(escaped[l]);
            CpWords4 words;
            words.x[0] = cp_funnel(low[l], high[l], 8);
            words.x[1] = cp_funnel(low[l], high[l], 16);
            words.x[2] = cp_funnel(low[l], high[l], 24);
            words.x[3] = high[l];
            cp_at<CpWords4>(entries[l], 16) = words;
        }
        const uint32_t escapes = cp_scan(rank);
        if (third + escapes > end) return false;
        cp_sync();
        Lane<uint32_t> before;
        CP_LANES(l) before[l] = *(const uint32_t *)(entries[l] - 4);
        cp_sync();
        CP_LANES(l) {
            CpWords4 words;
            words.x[0] = cp_funnel(before[l], low[l], 8);
            words.x[1] = cp_funnel(before[l], low[l], 16);
            words.x[2] = cp_funnel(before[l], low[l], 24);
            words.x[3] = low[l];
            cp_at<CpWords4>(entries[l], 0) = words;
        }
        cp_sync();
        CP_LANES(l) {
            const uint8_t *from = blob.at + third + rank[l];
            CP_ROLLED
            for (; escaped[l] != 0; escaped[l] &= escaped[l] - 1) {
                uint8_t *entry = entries[l] + cp_lowest(escaped[l]);
                entry[0] = entry[3] = entry[6] = entry[9] = *from++;
            }
            at[l] += 32 * B;
            bytes[l] -= 32 * B;
            valid[l] -= 4 * 256;
            entries[l] += 4 * 256;
        }
        third += escapes;
        cp_sync();
    }
    return true;
}

// How a tile's decoding went.
enum CpFastEnd : uint32_t { CP_DONE, CP_NOT_HERE, CP_NO_TILE };

// Decodes a tile of T(2, B) at `start`; NEAR as above.
template <uint32_t B, bool NEAR>
CP_FN CpFastEnd cp_fast_t(const CpBlob &blob, uint32_t start, uint32_t end, const CpFast &fast, CpShared *shared,
                          Lane<uint32_t> (&hash)[4], uint8_t *out) {
    const uint32_t first = start + CP_TILE, second = first + CP_TILE / 4;
    if (second > end) return CP_NO_TILE;
    Lane<CpWords4> codes;
    Lane<uint32_t> rank;
    CP_LANES(l) {
        codes[l] = cp_at<CpWords4>(blob.at, first + 16 * l);
        uint32_t count = 0;
        for (uint32_t i = 0; i < 4; i++) count += cp_popcount4(codes[l].x[i] & codes[l].x[i] >> 1 & 0x55555555u);
        rank[l] = count;
    }
    const uint32_t misses = cp_scan(rank);
    if (second + cp_stream(misses, B) > end) return CP_NO_TILE;
    if (misses > CP_SECONDS - 4) return CP_NOT_HERE;
    if (!cp_fast_seconds<B, NEAR>(blob, second, misses, end, fast, shared)) return CP_NO_TILE;
    CP_LANES(l) {
        const uint8_t *in = blob.at + start + 8 * l;
        uint8_t *to = out + 16 * l;
        uint32_t next = 4 * rank[l] + 28;
        CP_UNROLLED
        for (uint32_t half = 0; half < 2; half++, in += 1024, to += 2048) {
            CpWords2 raw[4];
            for (uint32_t i = 0; i < 4; i++) raw[i] = cp_at<CpWords2>(in, 256 * i);
            for (uint32_t i = 0; i < 4; i++) {
                uint32_t joined[4];
                for (uint32_t j = 0; j < 2; j++) {
                    const uint32_t byte = 4u << 8 * (2 * (i % 2) + j);
                    const uint32_t selector =
                        cp_at<uint32_t>(shared->by_codes, cp_dot(codes[l].x[i / 2], byte, 0));
                    const uint32_t symbols = cp_prmt(fast.first, cp_at<uint32_t>(shared->seconds, next), selector);
                    next = cp_dot(selector, 0x10000u, next);
                    joined[2 * j] = cp_prmt(raw[i].x[j], symbols, CP_JOIN_LOW);
                    joined[2 * j + 1] = cp_prmt(raw[i].x[j], symbols, CP_JOIN_HIGH);
                }
                cp_fast_put(hash, l, joined, to + 512 * i);
            }
            codes[l].x[0] = codes[l].x[2];
            codes[l].x[1] = codes[l].x[3];
        }
    }
    cp_sync();
    return CP_DONE;
}
