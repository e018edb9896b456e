// Which codes a page's fields get, and how its bytes are taken to be elements.
#pragma once

#include "fields.h"
#include "ints.h"

// The symbols that occur, commonest first.
struct CpRanking {
    uint8_t symbol[256];
    uint32_t order[256]; // count << 8 | 255 - symbol, which all are different
    uint32_t upto[257];  // occurrences of the first i symbols
    uint32_t distinct;
};

CP_SLOW void cp_rank(const CpHistogram &histogram, CpRanking *out) {
    const uint32_t *count = histogram.count;
    // Those that occur, and then among them.
    Lane<uint32_t> found;
    CP_LANES(l) {
        found[l] = 0;
        for (uint32_t s = 8 * l; s < 8 * l + 8; s++) found[l] += count[s] > 0;
    }
    const uint32_t distinct = cp_scan(found);
    CP_LANES(l) {
        uint32_t at = found[l];
        for (uint32_t s = 8 * l; s < 8 * l + 8; s++)
            if (count[s] > 0) out->order[at++] = count[s] << 8 | (255 - s);
    }
    cp_sync();
    CP_EACH(i, distinct) {
        const uint32_t own = out->order[i];
        uint32_t before = 0;
        for (uint32_t j = 0; j < distinct; j++) before += out->order[j] > own;
        out->symbol[before] = (uint8_t)(255 - (own & 255));
    }
    cp_sync();
    uint32_t sum = 0;
    CP_ROLLED
    for (uint32_t i = 0; i < distinct; i++) {
        out->upto[i] = sum;
        sum += count[out->symbol[i]];
    }
    CP_EACH(i, 257 - distinct) out->upto[distinct + i] = sum;
    out->distinct = distinct;
    cp_sync();
}

// Every byte about as often as every other, as far as so many can tell: nothing to gain.
CP_SLOW bool cp_flat(const CpHistogram &histogram) {
    uint32_t most = 0;
    for (uint32_t s = 0; s < 256; s++) most = histogram.count[s] > most ? histogram.count[s] : most;
    // Six deviations above a mean and a quarter.
    const uint64_t total = histogram.total, above = (uint64_t)most * 256 - cp_min(most * 256, total * 5 / 4);
    return above * above <= 36 * 256 * total;
}

// Bits that `scale` times the counted symbols take with the cheapest code, palettes included.
CP_SLOW uint64_t cp_cheapest(const CpRanking &ranking, uint32_t scale, bool nibbles, CpCode *best) {
    const uint64_t n = ranking.upto[256];
    if (ranking.distinct <= 1) return *best = {CpCode::CONST, 0, 0}, 0;
    uint64_t cost = UINT64_MAX;
    if (!nibbles) *best = {CpCode::RAW, 0, 0}, cost = n * scale * 8 * 255 / 256;
    for (uint32_t w = 1; w <= (nibbles ? 4u : 6u); w++) {
        if (ranking.distinct > 1u << w) continue;
        const uint64_t bits = n * scale * w + (8ull << w);
        if (bits < cost) cost = bits, *best = {CpCode::F, w, 0};
        break;
    }
    CP_ROLLED
    for (uint32_t a = 1; a <= 6; a++)
        for (uint32_t b = 1; b <= 6; b++) {
            const uint32_t first = (1u << a) - 1, both = cp_min(first + (1u << b) - 1, 256);
            if (first >= 256) break;
            const uint64_t misses = n - ranking.upto[first], escapes = n - ranking.upto[both];
            const uint64_t bits = (n * a + misses * b + escapes * 8) * scale + 8 * (first + (1u << b) - 1);
            if (bits < cost) cost = bits, *best = {CpCode::T, a, b};
        }
    return cost;
}

// Palettes and codes of a field from its ranking and its code.
CP_SLOW void cp_fill_field(const CpRanking &ranking, const CpCode &code, CpField *out) {
    out->code = code;
    out->value = ranking.symbol[0];
    if (code.kind < CpCode::F) return;
    const bool tiered = code.kind == CpCode::T;
    const uint32_t firsts = tiered ? (1u << code.a) - 1 : 1u << code.a, seconds = tiered ? (1u << code.b) - 1 : 0;
    const uint32_t known = ranking.distinct, none = tiered ? firsts | seconds << 8 | CP_SECOND | CP_THIRD : CP_THIRD;
    cp_sync();
    CP_EACH(i, 256) out->codes[i] = none;
    CP_EACH(i, 64) out->first[i] = i < cp_min(firsts, known) ? ranking.symbol[i] : 0;
    CP_EACH(i, 64) out->second[i] = i < seconds && firsts + i < known ? ranking.symbol[firsts + i] : 0;
    cp_sync();
    CP_EACH(i, cp_min(firsts, known)) out->codes[ranking.symbol[i]] = i;
    CP_EACH(i, cp_min(firsts + seconds, known) - cp_min(firsts, known))
    out->codes[ranking.symbol[firsts + i]] = firsts | i << 8 | CP_SECOND;
    cp_sync();
}

// A sample of a page: pieces of 1024 bytes from all over it.
enum : uint32_t { CP_PIECE = 1024, CP_PIECES = 8 };

// The fields of a page and what their codes are chosen with.
struct CpChoice {
    CpField field[CP_FIELDS_MOST];
    CpRanking ranking;
};

// Bits that the sample takes as FIELDS of this layout; UINT64_MAX for a bitmap that has too little to do.
template <class E>
CP_SLOW uint64_t cp_fields_cost(const uint8_t *page, uint32_t len, uint32_t most, const CpLayout &layout,
                                CpChoice *choice) {
    const uint32_t width = sizeof(E), fields = cp_fields(layout), each = CP_PIECE / width;
    const uint32_t pieces = cp_min(most, len / CP_PIECE), stride = len / CP_PIECE / pieces * CP_PIECE;
    CP_ROLLED
    for (uint32_t k = 0; k < fields; k++) {
        CP_EACH(s, 256) choice->field[k].histogram.count[s] = 0;
    }
    cp_sync();
    uint32_t stored = 0, covered = 0;
    CP_ROLLED
    for (uint32_t piece = 0; piece < pieces; piece++) {
        const E *at = (const E *)(page + piece * stride);
        Lane<uint32_t> any, count;
        CP_LANES(l) any[l] = count[l] = 0;
        CP_LANES(l) {
            CP_ROLLED
            for (uint32_t i = l; i < each; i += 32) {
                E x = at[i];
                any[l] |= x != 0;
                if (layout.bitmap && x == 0) continue;
                count[l]++;
                if (layout.rotate) x = cp_rotate<E>(x, 1);
                if (layout.nibbles) {
                    cp_add(&choice->field[0].histogram.count[x & 15], 1);
                    cp_add(&choice->field[1].histogram.count[x >> 4 & 15], 1);
                } else
                    for (uint32_t k = 0; k < width; k++) cp_add(&choice->field[k].histogram.count[x >> 8 * k & 255], 1);
            }
        }
        cp_sync();
        const uint32_t n = cp_scan(count);
        if (cp_or(any)) {
            stored += n;
            covered += each;
        } else if (!layout.bitmap) {
            // A block that is left out: its symbols are zeros, which were counted above.
            CP_ROLLED
            for (uint32_t k = 0; k < fields; k++) CP_EACH(i, 1) choice->field[k].histogram.count[0] -= each;
            cp_sync();
        }
    }
    if (layout.bitmap && stored > covered - covered / 8) return UINT64_MAX;
    uint64_t bits = (layout.bitmap ? covered : 0) + (uint64_t)covered * 80 / CP_TILE;
    const uint32_t scale = len / CP_PIECE / pieces;
    CP_ROLLED
    for (uint32_t k = 0; k < fields; k++) {
        CpCode code = {CpCode::RAW, 0, 0};
        choice->field[k].histogram.total = stored;
        if (!layout.nibbles && cp_flat(choice->field[k].histogram)) {
            bits += (uint64_t)stored * 8;
            continue;
        }
        cp_rank(choice->field[k].histogram, &choice->ranking);
        bits += cp_cheapest(choice->ranking, scale, layout.nibbles, &code) / scale;
        // A small sample of many symbols looks more uneven than what it stands for.
        bits += 5 * choice->ranking.distinct;
        if (code.kind == CpCode::T) bits += (uint64_t)stored * 48 / CP_TILE;
    }
    return bits;
}

// Bits that the sample takes as INTS.
template <class E>
CP_SLOW uint64_t cp_ints_cost(const uint8_t *page, uint32_t len, uint32_t most, bool delta, CpGroups *groups) {
    const uint32_t pieces = cp_min(most, len / CP_PIECE), stride = len / CP_PIECE / pieces * CP_PIECE;
    const uint32_t each = CP_PIECE / sizeof(E);
    uint64_t bytes = 0;
    CP_ROLLED
    for (uint32_t piece = 0; piece < pieces; piece++) {
        const E *at = (const E *)(page + piece * stride);
        cp_ints_look<E>(at, each, delta, groups);
        // Bases are counted as if no other group shared them, which a tile's do.
        bytes += cp_ints_size<E>(*groups, each) - (groups->offset_bytes == 0 ? sizeof(E) : 0);
    }
    return bytes * 8;
}

// Calls f with a value of the element's type.
template <class F>
CP_FN auto cp_with_element(uint32_t width_log, F f) {
    switch (width_log) {
    case 0: return f((uint8_t)0);
    case 1: return f((uint16_t)0);
    case 2: return f((uint32_t)0);
    default: return f((uint64_t)0);
    }
}

// What may be tried: elements of 1 << bit bytes for bits 0 to 3; floats; whole numbers and bytes.
enum CpAmong : uint32_t { CP_FLOATS = 16, CP_NUMBERS = 32, CP_ALL = 63 };

// Something that a page may be taken for.
struct CpGuess {
    CpMode mode;
    CpLayout layout;
};

// Bits that a sample of at most so many pieces takes.
CP_SLOW uint64_t cp_guess_cost(const uint8_t *page, uint32_t len, uint32_t most, const CpGuess &guess,
                               CpChoice *choice, CpGroups *groups) {
    const CpLayout &layout = guess.layout;
    return cp_with_element(layout.width_log, [&](auto element) {
        using E = decltype(element);
        return guess.mode == CP_INTS ? cp_ints_cost<E>(page, len, most, layout.delta, groups)
                                     : cp_fields_cost<E>(page, len, most, layout, choice);
    });
}

// Whether an eighth of the sample's elements can be zero, of whatever width: without this no bitmap is worth it.
CP_FN bool cp_has_zeros(const uint8_t *page, uint32_t len) {
    const uint32_t pieces = cp_min(CP_PIECES, len / CP_PIECE), stride = len / CP_PIECE / pieces * CP_PIECE;
    uint32_t zeros = 0, covered = 0;
    for (uint32_t piece = 0; piece < pieces; piece++) {
        const uint8_t *at = page + piece * stride;
        Lane<uint32_t> count;
        CP_LANES(l) count[l] = 0;
#ifdef __CUDACC__
        CP_EACH(i, CP_PIECE) count.value += at[i] == 0;
#else
        for (uint32_t i = 0; i < CP_PIECE; i++) count[0] += at[i] == 0;
#endif
        const uint32_t n = cp_scan(count);
        // A piece that is all zero is left out.
        if (n < CP_PIECE) zeros += n, covered += CP_PIECE;
    }
    return zeros >= covered / 8;
}

// The layout and mode that the sample takes least with. Ones that stand earlier are easier on the device, so a
// later one must be better by a 200th of the sample. A look at two pieces leaves those out that are far behind.
CP_SLOW CpMode cp_detect(const uint8_t *page, uint32_t len, uint32_t among, CpChoice *choice, CpGroups *groups,
                         CpLayout *best) {
    if (among == 0) among = CP_ALL;
    const uint32_t pieces = cp_min(CP_PIECES, len / CP_PIECE);
    // Too short to look at in pieces: bytes, or the one width that it may be.
    const bool rotate = (among & CP_NUMBERS) == 0;
    *best = {among & 1 ? 0u : among & 2 ? 1u : among & 4 ? 2u : 3u, rotate, 0, 0, 0};
    if (pieces == 0) return CP_FIELDS;
    const CpGuess all[] = {
        {CP_FIELDS, {1, 1, 0, 0, 0}}, {CP_FIELDS, {2, 1, 0, 0, 0}}, {CP_FIELDS, {0, 1, 1, 0, 0}},
        {CP_FIELDS, {0, 0, 0, 0, 0}}, {CP_FIELDS, {3, 1, 0, 0, 0}}, {CP_FIELDS, {1, 0, 0, 0, 0}},
        {CP_FIELDS, {2, 0, 0, 0, 0}}, {CP_FIELDS, {3, 0, 0, 0, 0}}, {CP_FIELDS, {0, 0, 1, 0, 0}},
        {CP_FIELDS, {1, 1, 0, 1, 0}}, {CP_FIELDS, {2, 1, 0, 1, 0}}, {CP_FIELDS, {0, 1, 1, 1, 0}},
        {CP_FIELDS, {0, 0, 0, 1, 0}}, {CP_FIELDS, {3, 1, 0, 1, 0}}, {CP_FIELDS, {1, 0, 0, 1, 0}},
        {CP_FIELDS, {2, 0, 0, 1, 0}}, {CP_FIELDS, {3, 0, 0, 1, 0}}, {CP_FIELDS, {0, 0, 1, 1, 0}},
        {CP_INTS, {1, 0, 0, 0, 0}},   {CP_INTS, {2, 0, 0, 0, 0}},   {CP_INTS, {3, 0, 0, 0, 0}},
        {CP_INTS, {1, 0, 0, 0, 1}},   {CP_INTS, {2, 0, 0, 0, 1}},   {CP_INTS, {3, 0, 0, 0, 1}},
    };
    const uint32_t count = sizeof all / sizeof *all;
    const bool zeros = cp_has_zeros(page, len);
    uint32_t left = 0;
    for (uint32_t i = 0; i < count; i++) {
        const CpLayout &layout = all[i].layout;
        if ((among >> layout.width_log & 1) && (among & (layout.rotate ? CP_FLOATS : CP_NUMBERS)) &&
            (zeros || !layout.bitmap))
            left |= 1u << i;
    }
    if (pieces == CP_PIECES && cp_popcount(left) > 2) {
        uint64_t cost[count], least = UINT64_MAX;
        for (uint32_t i = 0; i < count; i++) {
            cost[i] = UINT64_MAX;
            if (left >> i & 1) cost[i] = cp_guess_cost(page, len, 2, all[i], choice, groups);
            least = cost[i] < least ? cost[i] : least;
        }
        for (uint32_t i = 0; i < count; i++)
            if (cost[i] == UINT64_MAX || cost[i] > least + 2 * CP_PIECE) left &= ~(1u << i);
    }
    const uint64_t margin = (uint64_t)pieces * CP_PIECE * 8 / 200;
    CpMode mode = CP_FIELDS;
    uint64_t cost = UINT64_MAX;
    for (uint32_t i = 0; i < count; i++) {
        if (!(left >> i & 1)) continue;
        const uint64_t bits = cp_guess_cost(page, len, CP_PIECES, all[i], choice, groups);
        if (cost == UINT64_MAX || (bits != UINT64_MAX && bits + margin < cost))
            cost = bits, *best = all[i].layout, mode = all[i].mode;
    }
    return mode;
}
