// T streams of small widths, several codes at a time by tables. Nearly all floats have such.
//
// One look-up takes as many first codes as fit a byte, or two: their symbols, with gaps where a code leads
// on, and which places the gaps are. Second codes are looked up in pairs. One byte permutation puts the
// second tier's symbols into the gaps.
#pragma once

#include "split.h"

// Which places of four are gaps: on a device a selector for cp_prmt, on a processor a mask.
#if CP_DEVICE
using CpGaps = uint16_t;
#else
using CpGaps = uint32_t;
#endif

// Tables of one field: a up to 4, b up to 4.
struct CpTables {
    uint32_t symbols[256]; // by first codes: a byte each
    CpGaps gaps[256];      // which of them are to be filled
    uint8_t step[256];     // bits of the second codes that takes
    uint16_t pair[256];    // by two second codes: a byte each
};

CP_FN bool cp_has_tables(uint32_t a, uint32_t b) { return a <= 4 && b <= 4; }
// First codes at a time.
CP_FN uint32_t cp_at_a_time(uint32_t a) { return a <= 2 ? 4 : 2; }

// Fields of a page that have tables; the others are decoded without.
enum : uint32_t { CP_TABLES = CP_DEVICE ? 4u : (uint32_t)CP_FIELDS_MOST };

CP_FN uint32_t cp_gaps(uint32_t places) {
    uint32_t out = 0;
#if CP_DEVICE
    // Place i takes byte i of the one, or the next byte of the other.
    uint32_t next = 4;
    for (uint32_t i = 0; i < 4; i++) out |= (places >> i & 1 ? next++ : i) << 4 * i;
#else
    for (uint32_t i = 0; i < 4; i++) out |= (places >> i & 1) * 0xFFu << 8 * i;
#endif
    return out;
}

// `symbols` with the bytes of `others`, from the lowest on, in its gaps.
CP_FN uint32_t cp_expand(uint32_t symbols, uint32_t others, uint32_t gaps) {
#if CP_DEVICE
    return cp_prmt(symbols, others, gaps);
#elif defined(__BMI2__)
    return symbols | __builtin_ia32_pdep_si(others, gaps);
#else
    for (uint32_t i = 0; i < 32; i += 8)
        if (gaps >> i & 1) symbols |= (others & 255) << i, others >>= 8;
    return symbols;
#endif
}

CP_SLOW void cp_make_tables(uint32_t a, uint32_t b, const uint8_t *first, const uint8_t *second, CpTables *out) {
    const uint32_t each = cp_at_a_time(a), top = (1u << a) - 1, last = (1u << b) - 1;
    cp_sync();
    CP_EACH(codes, 1u << each * a) {
        uint32_t symbols = 0, places = 0;
        for (uint32_t i = 0; i < each; i++) {
            const uint32_t code = codes >> i * a & top;
            if (code == top)
                places |= 1u << i;
            else
                symbols |= (uint32_t)first[code] << 8 * i;
        }
        out->symbols[codes] = symbols;
        out->gaps[codes] = (CpGaps)cp_gaps(places);
        out->step[codes] = (uint8_t)(cp_popcount(places) * b);
    }
    CP_EACH(codes, 1u << 2 * b) out->pair[codes] = (uint16_t)(second[codes & last] | second[codes >> b] << 8);
    cp_sync();
}

// Decodes the first two tiers of one lane's codes: `count` positions from `p` on, all eights whole.
template <uint32_t A, uint32_t B>
CP_SLOW void cp_decode_tables(const CpBlob &blob, uint32_t stream, uint32_t bit, uint32_t m, uint32_t p, uint32_t end,
                            const CpTables &tables, uint8_t *plane) {
    constexpr uint32_t EACH = A <= 2 ? 4 : 2, ONES = (1u << EACH * A) - 1, PAIR = (1u << 2 * B) - 1;
    for (; p < end; p += 8) {
        uint64_t codes = cp_codes(blob, stream, p, A), symbols = 0;
        uint64_t window = cp_read8(blob, bit / 8) >> bit % 8;
        uint32_t used = 0;
        for (uint32_t j = 0; j < 8; j += EACH, codes >>= EACH * A) {
            const uint32_t at = codes & ONES, step = tables.step[at];
            uint32_t others = tables.pair[window & PAIR];
            if (EACH == 4) others |= (uint32_t)tables.pair[window >> 2 * B & PAIR] << 16;
            symbols |= (uint64_t)cp_expand(tables.symbols[at], others, tables.gaps[at]) << 8 * j;
            window >>= step;
            used += step;
        }
        bit += used;
        cp_store8(plane + cp_element(m, p), symbols);
    }
}

// As above, by widths.
CP_FN void cp_decode_by_tables(uint32_t a, uint32_t b, const CpBlob &blob, uint32_t stream, uint32_t bit, uint32_t m,
                               uint32_t p, uint32_t end, const CpTables &tables, uint8_t *plane) {
#define CP_CASE(A, B) \
    case A * 8 + B: return cp_decode_tables<A, B>(blob, stream, bit, m, p, end, tables, plane);
#define CP_CASES(A) CP_CASE(A, 1) CP_CASE(A, 2) CP_CASE(A, 3) CP_CASE(A, 4)
    switch (a * 8 + b) {
        CP_CASES(1)
        CP_CASES(2)
        CP_CASES(3)
        CP_CASES(4)
    }
#undef CP_CASES
#undef CP_CASE
}
