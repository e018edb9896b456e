// Coding of full tiles of 16-bit floats as fast.h decodes them, in registers and one pass: words are rotated and
// split, the first field written as it is, first codes looked up; what has none goes to shared memory in order, and
// from there as the second and the third stream.
#pragma once

#include "fast.h"
#include "fields.h"

// A warp's shared memory when it codes.
struct CpPacking {
    alignas(16) uint32_t gather[256]; // by four first codes: which lead on, as a selector; how many << 16
    alignas(16) uint8_t seconds[CP_TILE + 16];
    uint8_t first[256], second[256]; // codes by symbol
};

// Tables of a page.
CP_SLOW void cp_pack_tables(const CpField &field, CpPacking *shared) {
    cp_sync();
    CP_EACH(i, 256) {
        // With F a symbol without a code has one that is too large.
        shared->first[i] = field.code.kind == CpCode::F && (field.codes[i] & CP_THIRD) ? 16 : (uint8_t)field.codes[i];
        shared->second[i] = (uint8_t)(field.codes[i] >> 8);
        uint32_t selector = 0, count = 0;
        for (uint32_t k = 0; k < 4; k++)
            if ((i >> 2 * k & 3) == 3) selector |= k << 4 * count++;
        shared->gather[i] = selector | count << 16;
    }
    cp_sync();
}

// Of each lane the bytes of the second field of its 64 elements, four of each group of eight in a word.
struct CpExponents {
    uint32_t x[16];
};

// Reads a tile: its hash, its first field to `out`, the second to `e`. False if a block is all zero: such a tile is
// coded otherwise.
CP_FN bool cp_pack_split(const uint8_t *in, Lane<uint32_t> (&hash)[4], Lane<CpExponents> &e, uint8_t *out) {
    const uint32_t step = CP_HASH_STEP, step4 = step * step * step * step;
    Lane<uint32_t> any[4];
    CP_LANES(l) {
        const uint8_t *from = in + 16 * l;
        uint8_t *to = out + 8 * l;
        CP_UNROLLED
        for (uint32_t g = 0; g < 8; g++) {
            CpWords4 words = cp_at<CpWords4>(from, 512 * g);
            const uint32_t all = words.x[0] | words.x[1] | words.x[2] | words.x[3];
            any[g / 2][l] = g % 2 ? any[g / 2][l] | all : all;
            for (uint32_t i = 0; i < 4; i++) {
                hash[i][l] = hash[i][l] * step4 + words.x[i];
                words.x[i] = cp_funnel(words.x[i], words.x[i], 31);
            }
            CpWords2 raw;
            for (uint32_t i = 0; i < 2; i++) {
                raw.x[i] = cp_prmt(words.x[2 * i], words.x[2 * i + 1], 0x6420);
                e[l].x[2 * g + i] = cp_prmt(words.x[2 * i], words.x[2 * i + 1], 0x7531);
            }
            cp_at<CpWords2>(to, 256 * g) = raw;
        }
    }
    bool full = true;
    for (uint32_t b = 0; b < 4; b++) full &= cp_ballot(any[b]) != 0;
    return full;
}

// Codes a tile with F(4) to `out`, which has room for `room` bytes; its length, 0 if it is not for here (also if a
// symbol has no code).
CP_FN uint32_t cp_pack_f(const uint8_t *in, Lane<uint32_t> (&hash)[4], const CpPacking *shared, uint8_t *out,
                         uint32_t room) {
    Lane<CpExponents> e;
    if (room < CP_TILE + CP_TILE / 2 || !cp_pack_split(in, hash, e, out)) return 0;
    Lane<uint32_t> none;
    CP_LANES(l) {
        CpWords4 codes[2];
        none[l] = 0;
        CP_UNROLLED
        for (uint32_t g = 0; g < 8; g++) {
            uint32_t word = 0;
            for (uint32_t i = 0; i < 8; i++) {
                const uint32_t code = shared->first[cp_dot(e[l].x[2 * g + i / 4], 1u << 8 * (i % 4), 0)];
                none[l] |= code;
                word += code << 4 * i;
            }
            codes[g / 4].x[g % 4] = word;
        }
        cp_at<CpWords4>(out, CP_TILE + 32 * l) = codes[0];
        cp_at<CpWords4>(out, CP_TILE + 32 * l + 16) = codes[1];
        none[l] &= 16;
    }
    return cp_ballot(none) == 0 ? CP_TILE + CP_TILE / 2 : 0;
}

// Writes the second stream, and the third behind it, from the symbols in shared memory; how long both are.
template <uint32_t B>
CP_FN uint32_t cp_pack_seconds(uint32_t misses, const CpPacking *shared, uint8_t *out) {
    const uint32_t length = cp_stream(misses, B);
    uint32_t escapes = 0;
    CP_ROLLED
    for (uint32_t from = 0; from < misses; from += 256) {
        Lane<uint32_t> codes, escaped, rank, low, high;
        CP_LANES(l) {
            const CpWords2 symbols = cp_at<CpWords2>(shared->seconds, from + 8 * l);
            uint32_t word = 0;
            for (uint32_t i = 0; i < 8; i++)
                word += (uint32_t)shared->second[cp_dot(symbols.x[i / 4], 1u << 8 * (i % 4), 0)] << B * i;
            // What stands behind the last symbol is zero in the stream.
            const int32_t left = (int32_t)(misses - from - 8 * l);
            word &= ~cp_shift_left(~0u, left > 0 ? B * left : 0);
            codes[l] = word;
            uint32_t all = word & (B == 2 ? 0x5555u : B == 3 ? 0x249249u : 0x11111111u);
            for (uint32_t i = 1; i < B; i++) all &= word >> i;
            escaped[l] = all;
            rank[l] = cp_popcount4(all);
        }
        // Word w of the stream begins in lane 32w / 8B and ends in that or the next one.
        cp_from_lane(codes, 4, B, 0, low);
        cp_from_lane(codes, 4, B, 1, high);
        CP_LANES(l) {
            const uint32_t skip = 32 * l % (8 * B), at = from / 8 * B + 4 * l;
            const uint32_t word = low[l] >> skip | cp_shift_left(high[l], 8 * B - skip);
            if (l < 8 * B && at < length) cp_at<uint32_t>(out, at) = word;
        }
        const uint32_t found = cp_scan(rank);
        CP_LANES(l) {
            uint8_t *to = out + length + escapes + rank[l];
            CP_ROLLED
            for (; escaped[l] != 0; escaped[l] &= escaped[l] - 1)
                *to++ = shared->seconds[from + 8 * l + cp_lowest(escaped[l]) / B];
        }
        escapes += found;
    }
    return length + escapes;
}

// Codes a tile with T(2, B) to `out`, which has room for `room` bytes; its length with padding, 0 if it is not for
// here.
template <uint32_t B>
CP_FN uint32_t cp_pack_t(const uint8_t *in, Lane<uint32_t> (&hash)[4], CpPacking *shared, uint8_t *out,
                         uint32_t room) {
    const uint32_t heads = CP_TILE + CP_TILE / 4;
    if (room < heads) return 0;
    Lane<CpExponents> e;
    if (!cp_pack_split(in, hash, e, out)) return 0;
    Lane<CpWords4> codes;
    Lane<uint32_t> rank;
    CP_LANES(l) {
        uint32_t count = 0;
        CP_UNROLLED
        for (uint32_t w = 0; w < 4; w++) {
            uint32_t word = 0;
            for (uint32_t i = 0; i < 16; i++)
                word += (uint32_t)shared->first[cp_dot(e[l].x[4 * w + i / 4], 1u << 8 * (i % 4), 0)] << 2 * i;
            codes[l].x[w] = word;
            count += cp_popcount4(word & word >> 1 & 0x55555555u);
        }
        cp_at<CpWords4>(out, CP_TILE + 16 * l) = codes[l];
        rank[l] = count;
    }
    const uint32_t misses = cp_scan(rank);
    if (heads + cp_stream(misses, B) + misses + 16 > room) return 0;
    CP_LANES(l) {
        uint8_t *to = shared->seconds + rank[l];
        CP_UNROLLED
        for (uint32_t i = 0; i < 16; i++) {
            const uint32_t selector = cp_at<uint32_t>(shared->gather, cp_dot(codes[l].x[i / 4], 4u << 8 * (i % 4), 0));
            const uint32_t symbols = cp_prmt(e[l].x[i], 0, selector), count = selector >> 16;
            // Not one more: the next place is another lane's.
            for (uint32_t k = 0; k < 4; k++)
                if (k < count) to[k] = (uint8_t)(symbols >> 8 * k);
            to += count;
        }
    }
    cp_sync();
    const uint32_t end = heads + cp_pack_seconds<B>(misses, shared, out + heads), padded = cp_pad(end, 16);
    CP_LANES(l) {
        if (l < padded - end) out[end + l] = 0;
    }
    cp_sync();
    return padded;
}
