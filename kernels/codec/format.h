// Names for what docs/page-format.md says.
#pragma once

#include "lanes.h"

enum : uint32_t {
    CP_VERSION = 1,
    CP_PAGE = 65536,
    CP_TILE = 2048,       // elements
    CP_BLOCK = 512,       // elements that a mask bit stands for
    CP_GROUP = 128,       // elements of one width in INTS
    CP_FIELDS_MOST = 8,
    CP_TILES_MOST = 32,
    // A page that would take more than this part of itself, in 256ths, stays as it is.
    CP_WORTH = 248,
};

enum CpMode : uint8_t { CP_ZERO, CP_CONST, CP_RAW, CP_FIELDS, CP_INTS };

struct CpDescriptor {
    uint8_t version, mode, layout, zero;
    uint32_t hash, place;
    uint16_t size, last;
    uint8_t inline_[16];
};
static_assert(sizeof(CpDescriptor) == 32, "");

// How bytes form elements, and elements fields.
struct CpLayout {
    uint32_t width_log, rotate, nibbles, bitmap, delta;

    CP_FN uint8_t pack(const CpLayout &l) {
        return (uint8_t)(l.width_log | l.rotate << 2 | l.nibbles << 3 | l.bitmap << 4 | l.delta << 5);
    }
    CP_FN CpLayout unpack(uint8_t bits) {
        return {bits & 3u, bits >> 2 & 1u, bits >> 3 & 1u, bits >> 4 & 1u, bits >> 5 & 1u};
    }
};

// A field's code.
struct CpCode {
    enum Kind : uint32_t { CONST, RAW, F, T } kind;
    uint32_t a, b; // bits of the first and the second tier; F has its width in `a`

    // Bytes of its palettes.
    CP_FN uint32_t palette(const CpCode &c) {
        return c.kind == F ? 1u << c.a : c.kind == T ? (1u << c.a) + (1u << c.b) - 2 : 0;
    }
    CP_FN uint8_t pack(const CpCode &c) {
        return (uint8_t)(c.kind == CONST ? 0 : c.kind == RAW ? 1 : c.kind == F ? 0x10 + c.a : 0x80 + 8 * c.a + c.b);
    }
    // False if there is no such code.
    CP_FN bool unpack(uint8_t bits, bool nibbles, CpCode *out) {
        *out = {CONST, 0, 0};
        if (bits == 0) return true;
        if (bits == 1) return out->kind = RAW, !nibbles;
        if (bits > 0x10 && bits <= 0x10 + (nibbles ? 4 : 6)) return out->kind = F, out->a = bits - 0x10, true;
        if (bits < 0x80) return false;
        *out = {T, bits >> 3 & 15u, bits & 7u};
        return out->a >= 1 && out->a <= 6 && out->b >= 1 && out->b <= 6;
    }
};

CP_FN uint32_t cp_pad(uint32_t n, uint32_t to) { return (n + to - 1) / to * to; }
CP_FN uint32_t cp_min(uint32_t a, uint32_t b) { return a < b ? a : b; }
// Bytes of a stream of n codes, padded.
CP_FN uint32_t cp_stream(uint32_t n, uint32_t bits) { return cp_pad((n * bits + 7) / 8, 4); }

// Where a lane's codes stand: `per` positions each, a multiple of 8, so that eight codes are whole bytes.
CP_FN uint32_t cp_per_lane(uint32_t m) { return cp_pad((m + 31) / 32, 8); }
// The element of the first of eight positions.
CP_FN uint32_t cp_element(uint32_t m, uint32_t position) {
    return m == CP_TILE ? 8 * (32 * (position % 64 / 8) + position / 64) : position;
}
