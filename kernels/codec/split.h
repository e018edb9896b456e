// Elements of a tile, and the symbols of their fields.
//
// A tile's symbols stand in planes: one byte a symbol, the bytes of one field one after another, in
// order of stored element. Splitting and joining are inverse to each other. A processor packs the stored
// elements of a tile in a place of their own on the way; a device has no room for that.
#pragma once

#include "bits.h"

// A tile's place among what is being worked on.
struct CpTile {
    uint32_t elements; // of the page in it
    uint32_t mask;     // blocks that are stored
    uint32_t covered;  // elements in those, `n`
    uint32_t stored;   // elements that are stored, `m`
};

// Planes have room to read and write eight bytes past any symbol.
enum : uint32_t { CP_PLANE = CP_TILE + 16 };

enum : uint32_t {
    // Of how many fields a decoder has planes at once.
    CP_PLANES = CP_DEVICE ? 4u : (uint32_t)CP_FIELDS_MOST,
    // Room for stored elements, packed.
    CP_GATHER = CP_DEVICE ? 16 : CP_TILE * 8 + 16,
};

// The work space of one warp that decodes a tile.
struct CpUnpacked {
    alignas(16) uint8_t plane[CP_PLANES][CP_PLANE];
    alignas(16) uint8_t gather[CP_GATHER];
    uint32_t bitmap[CP_TILE / 32 + 1];
};

// The work space of one warp that codes a tile.
struct CpWork {
    alignas(16) uint8_t plane[CP_FIELDS_MOST][CP_PLANE];
    alignas(16) uint8_t gather[CP_GATHER];
    uint32_t bitmap[CP_TILE / 32 + 1];
    // Of a T field that is being written: symbols of the second and the third tier before each lane's, and
    // all of them (the third << 16).
    uint16_t misses[CP_FIELDS_MOST][32], escapes[CP_FIELDS_MOST][32];
    uint32_t tiers[CP_FIELDS_MOST];
};

CP_FN uint32_t cp_covered(uint32_t mask, uint32_t elements) {
    uint32_t n = 0;
    for (uint32_t b = 0; b < CP_TILE / CP_BLOCK; b++)
        if (mask >> b & 1) n += cp_min(elements - cp_min(elements, b * CP_BLOCK), CP_BLOCK);
    return n;
}

// The element of the tile that is the i-th of those its mask covers.
CP_FN uint32_t cp_uncover(uint32_t mask, uint32_t i) {
    uint32_t block = i / CP_BLOCK, b = 0;
    for (; b < CP_TILE / CP_BLOCK; b++)
        if (mask >> b & 1) {
            if (block == 0) break;
            block--;
        }
    return b * CP_BLOCK + i % CP_BLOCK;
}

template <class Word>
CP_FN Word cp_rotate(Word x, uint32_t by) {
    return (Word)(x << by | x >> (8 * sizeof(Word) - by));
}

// Rotates `m` packed elements by one bit, units of four bytes at once; left, or right (`back`).
template <class E>
CP_FN void cp_rotate_units(uint8_t *elements, uint32_t m, bool back) {
    const uint32_t per = sizeof(E) < 4 ? 4 / sizeof(E) : 1, whole = m / per;
    if (sizeof(E) == 8) {
        uint64_t *words = (uint64_t *)elements;
        CP_EACH(i, m) words[i] = cp_rotate<uint64_t>(words[i], back ? 63 : 1);
    } else {
        uint32_t *words = (uint32_t *)elements;
        CP_EACH(i, whole) words[i] = cp_rotate<uint32_t>(words[i], back ? 31 : 1);
        E *rest = (E *)elements + whole * per;
        CP_EACH(i, m - whole * per) rest[i] = cp_rotate<E>(rest[i], back ? 8 * sizeof(E) - 1 : 1);
    }
    cp_sync();
}

// Packed elements to planes.
template <class E>
CP_FN void cp_to_planes(const E *elements, uint32_t m, bool nibbles, CpWork *work) {
    if (nibbles) {
        CP_EACH(i, m) work->plane[0][i] = (uint8_t)(elements[i] & 15);
        CP_EACH(i, m) work->plane[1][i] = (uint8_t)(elements[i] >> 4 & 15);
    } else {
        CP_ROLLED
        for (uint32_t k = 0; k < sizeof(E); k++)
            CP_EACH(i, m) work->plane[k][i] = (uint8_t)(elements[i] >> 8 * k);
    }
    cp_sync();
}

// Four bytes of each packed element of eight, the `half`-th, from four planes.
CP_FN void cp_from_half(uint8_t *elements, uint32_t m, uint32_t half, const uint8_t (*p)[CP_PLANE]) {
    uint32_t *words = (uint32_t *)elements + half;
    CP_EACH(i, m) words[2 * i] = p[0][i] | p[1][i] << 8 | p[2][i] << 16 | (uint32_t)p[3][i] << 24;
    cp_sync();
}

// Planes to packed elements; of elements of eight bytes a device has done the first half before.
template <class E>
CP_FN void cp_from_planes(E *elements, uint32_t m, bool nibbles, const uint8_t (*p)[CP_PLANE]) {
    if (nibbles) {
        CP_EACH(i, m) elements[i] = (E)(p[0][i] | p[1][i] << 4);
    } else if (sizeof(E) == 1) {
        CP_EACH(i, m) elements[i] = (E)p[0][i];
    } else if (sizeof(E) == 2) {
        CP_EACH(i, m) elements[i] = (E)(p[0][i] | p[1][i] << 8);
    } else if (sizeof(E) == 4) {
        CP_EACH(i, m) elements[i] = (E)(p[0][i] | p[1][i] << 8 | p[2][i] << 16 | (uint32_t)p[3][i] << 24);
    } else if (CP_DEVICE) {
        cp_from_half((uint8_t *)elements, m, 1, p);
    } else {
        CP_EACH(i, m) {
            const uint32_t low = p[0][i] | p[1][i] << 8 | p[2][i] << 16 | (uint32_t)p[3][i] << 24;
            const uint32_t high = p[4][i] | p[5][i] << 8 | p[6][i] << 16 | (uint32_t)p[7][i] << 24;
            elements[i] = (E)(low | (uint64_t)high << 32);
        }
    }
    cp_sync();
}

// What of a tile is stored: mask, and with `bitmap` the bits in work->bitmap.
template <class E>
CP_SLOW CpTile cp_look(const E *in, uint32_t elements, bool bitmap, CpWork *work) {
    CpTile tile = {elements, 0, 0, 0};
    CP_ROLLED
    for (uint32_t b = 0; b * CP_BLOCK < elements; b++) {
        const uint32_t end = cp_min(elements - b * CP_BLOCK, CP_BLOCK);
        const E *block = in + b * CP_BLOCK;
        Lane<uint32_t> any;
        CP_LANES(l) any[l] = 0;
#ifdef __CUDACC__
        CP_EACH(i, end) any.value |= block[i] != 0;
#else
        E all = 0;
        CP_EACH(i, end) all |= block[i];
        any[0] = all != 0;
#endif
        if (cp_or(any)) tile.mask |= 1u << b;
    }
    tile.covered = tile.stored = cp_covered(tile.mask, elements);
    if (!bitmap) return tile;
    Lane<uint32_t> count;
    CP_LANES(l) {
        count[l] = 0;
        CP_ROLLED
        for (uint32_t w = 2 * l; w < 2 * l + 2; w++) {
            uint32_t bits = 0;
            CP_ROLLED
            for (uint32_t i = 0; i < 32; i++) {
                const uint32_t at = 32 * w + i;
                if (at < tile.covered && in[cp_uncover(tile.mask, at)] != 0) bits |= 1u << i;
            }
            work->bitmap[w] = bits;
            count[l] += cp_popcount(bits);
        }
    }
    tile.stored = cp_scan(count);
    cp_sync();
    return tile;
}

// Calls f(stored element, element of the tile) for each stored element.
template <class F>
CP_FN void cp_each_stored(const CpTile &tile, bool bitmap, const uint32_t *stored, F f) {
    if (!bitmap) {
        CP_EACH(i, tile.covered) f(i, cp_uncover(tile.mask, i));
        cp_sync();
        return;
    }
    Lane<uint32_t> rank;
    CP_LANES(l) rank[l] = cp_popcount(stored[2 * l]) + cp_popcount(stored[2 * l + 1]);
    cp_scan(rank);
    CP_LANES(l) {
        uint32_t at = rank[l];
        CP_ROLLED
        for (uint32_t w = 2 * l; w < 2 * l + 2; w++)
            for (uint32_t bits = stored[w], i = 0; bits != 0; bits >>= 1, i++)
                if (bits & 1) f(at++, cp_uncover(tile.mask, 32 * w + i));
    }
    cp_sync();
}

// The bytes of an element or a unit of elements, to planes from symbol i on.
template <class E, class Word>
CP_FN void cp_put_planes(Word word, uint32_t i, uint8_t (*plane)[CP_PLANE]) {
    CP_UNROLLED
    for (uint32_t byte = 0; byte < sizeof(Word); byte++)
        plane[byte % sizeof(E)][i + byte / sizeof(E)] = (uint8_t)(word >> 8 * byte);
}
template <class E, class Word>
CP_FN Word cp_of_planes(uint32_t i, const uint8_t (*plane)[CP_PLANE]) {
    Word word = 0;
    CP_UNROLLED
    for (uint32_t byte = 0; byte < sizeof(Word); byte++)
        word |= (Word)plane[byte % sizeof(E)][i + byte / sizeof(E)] << 8 * byte;
    return word;
}

// A unit of elements as one number.
template <class E>
struct CpUnit {
    using Word = uint32_t;
};
template <>
struct CpUnit<uint64_t> {
    using Word = uint64_t;
};

// As cp_split, without packed elements in between.
template <class E>
CP_FN void cp_split_small(const E *in, const CpTile &tile, const CpLayout &layout, CpWork *work) {
    using Word = typename CpUnit<E>::Word;
    const uint32_t per = sizeof(Word) / sizeof(E), m = tile.stored, whole = m / per;
    uint8_t(*plane)[CP_PLANE] = work->plane;
    const bool all = !layout.bitmap && tile.covered == tile.elements;
    if (!all || !layout.rotate)
        cp_each_stored(tile, layout.bitmap, work->bitmap,
                       [&](uint32_t to, uint32_t from) { cp_put_planes<E, E>(in[from], to, plane); });
    if (layout.rotate) {
        CP_EACH(i, whole) {
            const Word word = all ? ((const Word *)in)[i] : cp_of_planes<E, Word>(per * i, plane);
            cp_put_planes<E, Word>(cp_rotate<Word>(word, 1), per * i, plane);
        }
        CP_EACH(i, m - whole * per) {
            const uint32_t at = whole * per + i;
            cp_put_planes<E, E>(cp_rotate<E>(all ? in[at] : cp_of_planes<E, E>(at, plane), 1), at, plane);
        }
        cp_sync();
    }
    if (!layout.nibbles) return;
    CP_EACH(i, m) {
        plane[1][i] = plane[0][i] >> 4;
        plane[0][i] &= 15;
    }
    cp_sync();
}

// The symbols of a tile's stored elements, in work->plane.
template <class E>
CP_SLOW void cp_split(const E *in, const CpTile &tile, const CpLayout &layout, CpWork *work) {
    if (CP_DEVICE) return cp_split_small(in, tile, layout, work);
    E *packed = (E *)work->gather;
    if (!layout.bitmap && tile.covered == tile.elements) {
        cp_copy(work->gather, (const uint8_t *)in, tile.elements * sizeof(E));
        cp_sync();
    } else {
        cp_each_stored(tile, layout.bitmap, work->bitmap, [&](uint32_t to, uint32_t from) { packed[to] = in[from]; });
    }
    if (layout.rotate) cp_rotate_units<E>(work->gather, tile.stored, false);
    cp_to_planes(packed, tile.stored, layout.nibbles, work);
}

// Puts stored elements, which stand packed at the tile's start, in their places, from the last row of 32 to the
// first: an element never goes to where one stands that is still to be moved.
template <class E>
CP_FN void cp_spread(E *out, const CpTile &tile, bool bitmap, const uint32_t *stored) {
    uint32_t packed = tile.stored, covered = tile.covered;
    CP_ROLLED
    for (uint32_t row = (tile.elements + 31) / 32; row-- > 0;) {
        const uint32_t n = cp_min(tile.elements - 32 * row, 32);
        uint32_t bits = 0;
        if (tile.mask >> row / (CP_BLOCK / 32) & 1) {
            covered -= n;
            bits = bitmap ? stored[covered / 32] : ~0u >> (32 - n);
        }
        packed -= cp_popcount(bits);
        Lane<E> value;
        CP_LANES(l) value[l] = bits >> l & 1 ? out[packed + cp_popcount(bits & ((1u << l) - 1))] : (E)0;
        cp_sync();
        CP_LANES(l) {
            if (l < n) out[32 * row + l] = value[l];
        }
        cp_sync();
    }
}

// Where a decoder packs a tile's stored elements.
template <class E>
CP_FN E *cp_packed(E *out, const CpTile &tile, const CpLayout &layout, CpUnpacked *work) {
    const bool all = !layout.bitmap && tile.covered == tile.elements;
    return CP_DEVICE || all ? out : (E *)work->gather;
}

// The inverse of cp_split: all elements of the tile.
template <class E>
CP_SLOW void cp_join(E *out, const CpTile &tile, const CpLayout &layout, CpUnpacked *work) {
    E *packed = cp_packed(out, tile, layout, work);
    cp_from_planes(packed, tile.stored, layout.nibbles, work->plane);
    if (layout.rotate) cp_rotate_units<E>((uint8_t *)packed, tile.stored, true);
    if (!layout.bitmap && tile.covered == tile.elements) return;
    if (CP_DEVICE) return cp_spread(out, tile, layout.bitmap, work->bitmap);
    CP_EACH(i, tile.elements) out[i] = 0;
    cp_sync();
    cp_each_stored(tile, layout.bitmap, work->bitmap, [&](uint32_t from, uint32_t to) { out[to] = packed[from]; });
}
