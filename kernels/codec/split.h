// Elements of a tile, and the symbols of their fields.
//
// A tile's symbols stand in planes: one byte a symbol, the bytes of one field one after another, in
// order of stored element. Splitting and joining are inverse to each other.
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

// The work space of one warp on one tile.
struct CpWork {
    alignas(16) uint8_t plane[CP_FIELDS_MOST][CP_PLANE];
    alignas(16) uint8_t gather[CP_TILE * 8 + 16]; // stored elements, packed
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

// Planes to packed elements.
template <class E>
CP_FN void cp_from_planes(E *elements, uint32_t m, bool nibbles, const CpWork *work) {
    const uint8_t(*p)[CP_PLANE] = work->plane;
    if (nibbles) {
        CP_EACH(i, m) elements[i] = (E)(p[0][i] | p[1][i] << 4);
    } else if (sizeof(E) == 1) {
        CP_EACH(i, m) elements[i] = (E)p[0][i];
    } else if (sizeof(E) == 2) {
        CP_EACH(i, m) elements[i] = (E)(p[0][i] | p[1][i] << 8);
    } else if (sizeof(E) == 4) {
        CP_EACH(i, m) elements[i] = (E)(p[0][i] | p[1][i] << 8 | p[2][i] << 16 | (uint32_t)p[3][i] << 24);
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
CP_FN void cp_each_stored(const CpTile &tile, bool bitmap, const CpWork *work, F f) {
    if (!bitmap) {
        CP_EACH(i, tile.covered) f(i, cp_uncover(tile.mask, i));
        cp_sync();
        return;
    }
    Lane<uint32_t> rank;
    CP_LANES(l) rank[l] = cp_popcount(work->bitmap[2 * l]) + cp_popcount(work->bitmap[2 * l + 1]);
    cp_scan(rank);
    CP_LANES(l) {
        uint32_t at = rank[l];
        CP_ROLLED
        for (uint32_t w = 2 * l; w < 2 * l + 2; w++)
            for (uint32_t bits = work->bitmap[w], i = 0; bits != 0; bits >>= 1, i++)
                if (bits & 1) f(at++, cp_uncover(tile.mask, 32 * w + i));
    }
    cp_sync();
}

// The symbols of a tile's stored elements, in work->plane.
template <class E>
CP_SLOW void cp_split(const E *in, const CpTile &tile, const CpLayout &layout, CpWork *work) {
    E *packed = (E *)work->gather;
    if (!layout.bitmap && tile.covered == tile.elements) {
        cp_copy(work->gather, (const uint8_t *)in, tile.elements * sizeof(E));
        cp_sync();
    } else {
        cp_each_stored(tile, layout.bitmap, work, [&](uint32_t to, uint32_t from) { packed[to] = in[from]; });
    }
    if (layout.rotate) cp_rotate_units<E>(work->gather, tile.stored, false);
    cp_to_planes(packed, tile.stored, layout.nibbles, work);
}

// The inverse: all elements of the tile.
template <class E>
CP_SLOW void cp_join(E *out, const CpTile &tile, const CpLayout &layout, CpWork *work) {
    const bool all = !layout.bitmap && tile.covered == tile.elements;
    E *packed = all ? out : (E *)work->gather;
    cp_from_planes(packed, tile.stored, layout.nibbles, work);
    if (layout.rotate) cp_rotate_units<E>((uint8_t *)packed, tile.stored, true);
    if (all) return;
    CP_EACH(i, tile.elements) out[i] = 0;
    cp_sync();
    cp_each_stored(tile, layout.bitmap, work, [&](uint32_t from, uint32_t to) { out[to] = packed[from]; });
}
