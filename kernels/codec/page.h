// What coding and decoding of whole pages share.
#pragma once

#include "choose.h"
#include "pack.h"

// What is known of the bytes beforehand.
struct CpHint {
    uint8_t known; // 0: look at them; else the next two hold
    uint8_t mode, layout;
    uint8_t among; // where they are looked at: CpAmong bits, 0 for all
};

// Of how many tiles a coder keeps the symbols and the groups: a device finds them out again.
enum : uint32_t { CP_KEPT = CP_DEVICE ? 1u : (uint32_t)CP_TILES_MOST };

// The work space of one warp that codes pages.
struct CpEncodeScratch {
    CpWork tile[CP_KEPT];
    CpTile about[CP_TILES_MOST];
    CpGroups groups[CP_KEPT];
    CpChoice choice;
};

// The work space of one warp that decodes pages.
struct CpDecodeScratch {
    CpUnpacked tile;
    CpPalettes field[CP_FIELDS_MOST];
    CpTables tables[CP_TABLES];
};

// Their sizes on a device, where somebody else takes memory for them (src/codec/kernels.rs).
enum : uint32_t { CP_ENCODE_SCRATCH = 30224, CP_DECODE_SCRATCH = 18912 };
static_assert(!CP_DEVICE || sizeof(CpEncodeScratch) == CP_ENCODE_SCRATCH, "say it there, too");
static_assert(!CP_DEVICE || sizeof(CpDecodeScratch) == CP_DECODE_SCRATCH, "say it there, too");

enum CpVerdict : uint32_t { CP_GOOD, CP_BROKEN, CP_WRONG_HASH };

CP_FN uint32_t cp_len(const CpDescriptor &d) { return d.last + 1u; }

// The page hash: 32 lanes of a Horner sum over 32-bit words, folded.
CP_SLOW uint32_t cp_hash(const uint8_t *bytes, uint32_t len) {
    const uint32_t step = CP_HASH_STEP, fold = CP_HASH_FOLD;
    Lane<uint32_t> lane;
    CP_LANES(l) lane[l] = 0;
    const uint32_t rows = len / 128;
    const uint32_t *words = (const uint32_t *)bytes;
#ifdef __CUDACC__
    CP_LANES(l) for (uint32_t r = 0; r < rows; r++) lane[l] = lane[l] * step + words[32 * r + l];
#else
    // The other way round, so that the lanes are those of vector registers.
    for (uint32_t r = 0; r < rows; r++) CP_LANES(l) lane[l] = lane[l] * step + words[32 * r + l];
#endif
    CP_LANES(l) {
        const uint32_t at = rows * 128 + 4 * l;
        if (at >= len) continue;
        uint32_t word = 0;
        for (uint32_t i = 0; i < cp_min(len - at, 4); i++) word |= (uint32_t)bytes[at + i] << 8 * i;
        lane[l] = lane[l] * step + word;
    }
    uint32_t hash = len;
    cp_sync();
#ifdef __CUDACC__
    for (uint32_t l = 0; l < 32; l++) hash = hash * fold + __shfl_sync(0xFFFFFFFFu, lane.value, l);
#else
    CP_LANES(l) hash = hash * fold + lane[l];
#endif
    return hash;
}

// Whether the page is its first 16 bytes again and again.
CP_SLOW bool cp_repeats(const uint8_t *page, uint32_t len) {
    Lane<uint32_t> differs;
    CP_LANES(l) differs[l] = 0;
    // Most pages are known by their first bytes.
    for (uint32_t from = 16; from < len; from += 4096) {
        const uint32_t n = cp_min(len - from, 4096);
#ifdef __CUDACC__
        CP_EACH(i, n) differs.value |= page[from + i] ^ page[from + i - 16];
#else
        uint8_t all = 0;
        CP_EACH(i, n) all |= page[from + i] ^ page[from + i - 16];
        differs[0] = all;
#endif
        if (cp_or(differs)) return false;
    }
    return true;
}

// What stands in a blob before its tiles.
CP_FN uint32_t cp_head(uint32_t palettes, uint32_t tail, uint32_t tiles) {
    return cp_pad(cp_pad(palettes + tail, 4) + 4 * tiles, 16);
}
