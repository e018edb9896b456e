// Whole pages: bytes to descriptor and blob, and back.
#pragma once

#include "choose.h"

// What is known of the bytes beforehand.
struct CpHint {
    uint8_t known; // 0: look at them; else the next two hold
    uint8_t mode, layout;
    uint8_t among; // where they are looked at: CpAmong bits, 0 for all
};

// The work space for one page.
struct CpScratch {
    CpWork tile[CP_TILES_MOST];
    CpTile about[CP_TILES_MOST];
    CpGroups groups[CP_TILES_MOST];
    CpField field[CP_FIELDS_MOST];
    CpTables tables[CP_FIELDS_MOST];
    CpChoice choice;
};

enum CpVerdict : uint32_t { CP_GOOD, CP_BROKEN, CP_WRONG_HASH };

CP_FN uint32_t cp_len(const CpDescriptor &d) { return d.last + 1u; }

// The page hash: 32 lanes of a Horner sum over 32-bit words, folded.
CP_FN uint32_t cp_hash(const uint8_t *bytes, uint32_t len) {
    const uint32_t step = 0x9E3779B1u, fold = 0x6A09E667u;
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
CP_FN bool cp_repeats(const uint8_t *page, uint32_t len) {
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

CP_FN void cp_count_plane(const uint8_t *plane, uint32_t m, bool all, CpHistogram *out) {
    // One group of eight in eight, another one in each row of 64.
    const uint32_t groups = (m + 7) / 8;
    CP_EACH(g, groups) {
        if (!all && g % 8 != g / 8 % 8) continue;
        for (uint32_t j = 0; j < cp_min(m - 8 * g, 8); j++) cp_add(&out->count[plane[8 * g + j]], 1);
    }
    cp_sync();
}

// Whether the field's code can say every symbol of a plane.
CP_FN bool cp_covers(const CpField &field, const uint8_t *plane, uint32_t m) {
    if (field.code.kind == CpCode::RAW || field.code.kind == CpCode::T) return true;
    const bool constant = field.code.kind == CpCode::CONST;
    Lane<uint32_t> misses;
    CP_LANES(l) misses[l] = 0;
#ifdef __CUDACC__
    CP_EACH(i, m) misses.value |= constant ? plane[i] != field.value : (field.codes[plane[i]] & CP_THIRD) != 0;
#else
    uint32_t all = 0;
    if (constant)
        CP_EACH(i, m) all |= plane[i] ^ field.value;
    else
        CP_EACH(i, m) all |= (field.codes[plane[i]] & CP_THIRD) != 0;
    misses[0] = all;
#endif
    return cp_or(misses) == 0;
}

// Chooses the code of field k: from a sample, and from all symbols if the sample did not tell.
CP_FN void cp_choose_field(uint32_t k, uint32_t tiles, const CpLayout &layout, CpScratch *s) {
    CpHistogram *histogram = &s->choice.histogram[k];
    CpCode code;
    for (uint32_t all = 0; all < 2; all++) {
        uint32_t symbols = 0;
        for (uint32_t t = 0; t < tiles; t++) symbols += s->about[t].stored;
        if (all == 0 && symbols < 4 * CP_TILE) continue;
        CP_EACH(i, 256) histogram->count[i] = 0;
        cp_sync();
        for (uint32_t t = 0; t < tiles; t++) cp_count_plane(s->tile[t].plane[k], s->about[t].stored, all, histogram);
        uint32_t total = 0;
        for (uint32_t i = 0; i < 256; i++) total += histogram->count[i];
        histogram->total = total;
        if (!layout.nibbles && total > 0 && cp_flat(*histogram)) {
            s->field[k].code = {CpCode::RAW, 0, 0};
            return;
        }
        cp_rank(*histogram, &s->choice.ranking);
        cp_cheapest(s->choice.ranking, all ? 1 : 8, layout.nibbles, &code);
        cp_fill_field(s->choice.ranking, code, &s->field[k]);
        bool covers = true;
        for (uint32_t t = 0; t < tiles && covers; t++)
            covers = cp_covers(s->field[k], s->tile[t].plane[k], s->about[t].stored);
        if (covers) return;
    }
}

// What stands in a blob before its tiles.
CP_FN uint32_t cp_head(uint32_t palettes, uint32_t tail, uint32_t tiles) {
    return cp_pad(cp_pad(palettes + tail, 4) + 4 * tiles, 16);
}

// Bytes of the whole blob, 0 if it is not worth it. `size` gives each tile's, padded.
template <class Size>
CP_FN uint32_t cp_blob_size(uint32_t head, uint32_t tiles, uint32_t len, Size size) {
    uint32_t bytes = head;
    for (uint32_t t = 0; t < tiles; t++) bytes += size(t);
    return (uint64_t)bytes * 256 > (uint64_t)len * CP_WORTH ? 0 : bytes;
}

CP_FN void cp_put4(uint8_t *at, uint32_t x) { CP_EACH(i, 4) at[i] = (uint8_t)(x >> 8 * i); }

template <class E>
CP_FN uint32_t cp_encode_fields(const uint8_t *page, uint32_t len, const CpLayout &layout, CpDescriptor *d,
                                uint8_t *out, CpScratch *s) {
    const uint32_t n = len / sizeof(E), tiles = (n + CP_TILE - 1) / CP_TILE, tail = len % sizeof(E);
    const uint32_t fields = cp_fields(layout);
    const E *elements = (const E *)page;
    for (uint32_t t = 0; t < tiles; t++) {
        const E *in = elements + t * CP_TILE;
        s->about[t] = cp_look<E>(in, cp_min(n - t * CP_TILE, CP_TILE), layout.bitmap, &s->tile[t]);
        cp_split<E>(in, s->about[t], layout, &s->tile[t]);
    }
    uint32_t palettes = 0;
    for (uint32_t k = 0; k < fields; k++) {
        cp_choose_field(k, tiles, layout, s);
        palettes += CpCode::palette(s->field[k].code);
    }
    const uint32_t head = cp_head(palettes, tail, tiles);
    uint32_t size[CP_TILES_MOST];
    const uint32_t bytes = cp_blob_size(head, tiles, len, [&](uint32_t t) {
        const uint32_t bitmap = layout.bitmap ? cp_stream(s->about[t].covered, 1) : 0;
        return size[t] = cp_pad(bitmap + cp_streams_size(s->about[t].stored, fields, s->field, &s->tile[t]), 16);
    });
    if (bytes == 0) return 0;
    CP_EACH(i, bytes / 4) ((uint32_t *)out)[i] = 0;
    cp_sync();
    uint8_t *at = out;
    for (uint32_t k = 0; k < fields; k++) {
        const CpField &field = s->field[k];
        const uint32_t firsts = field.code.kind == CpCode::T ? (1u << field.code.a) - 1 : CpCode::palette(field.code);
        CP_EACH(i, firsts) at[i] = field.first[i];
        CP_EACH(i, CpCode::palette(field.code) - firsts) at[firsts + i] = field.second[i];
        at += CpCode::palette(field.code);
        CP_EACH(i, 1) {
            d->inline_[k] = CpCode::pack(field.code);
            d->inline_[8 + k] = field.code.kind == CpCode::CONST ? field.value : 0;
        }
    }
    CP_EACH(i, tail) at[i] = page[n * sizeof(E) + i];
    at = out + cp_pad(palettes + tail, 4);
    uint32_t start = head;
    for (uint32_t t = 0; t < tiles; t++) {
        cp_put4(at + 4 * t, start / 16 | s->about[t].mask << 16);
        uint8_t *streams = out + start;
        if (layout.bitmap) {
            CP_EACH(w, cp_stream(s->about[t].covered, 1) / 4) ((uint32_t *)streams)[w] = s->tile[t].bitmap[w];
            streams += cp_stream(s->about[t].covered, 1);
        }
        cp_encode_streams(streams, s->about[t].stored, fields, s->field, &s->tile[t]);
        start += size[t];
    }
    return bytes;
}

template <class E>
CP_FN uint32_t cp_encode_ints(const uint8_t *page, uint32_t len, bool delta, uint8_t *out, CpScratch *s) {
    const uint32_t n = len / sizeof(E), tiles = (n + CP_TILE - 1) / CP_TILE, tail = len % sizeof(E);
    const uint32_t head = cp_head(0, tail, tiles);
    const E *elements = (const E *)page;
    uint32_t size[CP_TILES_MOST];
    const uint32_t bytes = cp_blob_size(head, tiles, len, [&](uint32_t t) {
        const uint32_t count = cp_min(n - t * CP_TILE, CP_TILE);
        cp_ints_look<E>(elements + t * CP_TILE, count, delta, &s->groups[t]);
        return size[t] = cp_pad(cp_ints_size<E>(s->groups[t], count), 16);
    });
    if (bytes == 0) return 0;
    CP_EACH(i, bytes / 4) ((uint32_t *)out)[i] = 0;
    cp_sync();
    CP_EACH(i, tail) out[i] = page[n * sizeof(E) + i];
    uint32_t start = head;
    for (uint32_t t = 0; t < tiles; t++) {
        cp_put4(out + cp_pad(tail, 4) + 4 * t, start / 16);
        cp_ints_encode<E>(elements + t * CP_TILE, cp_min(n - t * CP_TILE, CP_TILE), delta, s->groups[t], out + start);
        start += size[t];
    }
    return bytes;
}

// Codes a page of 1 to 65,536 bytes. `out` has room for as many, padded to 16; nothing is written there
// for a page that stays as it is (RAW).
CP_FN void cp_encode_page(const uint8_t *page, uint32_t len, CpHint hint, CpDescriptor *d, uint8_t *out, CpScratch *s) {
    const uint32_t hash = cp_hash(page, len);
    CP_EACH(i, 1) {
        memset(d, 0, sizeof *d);
        d->version = CP_VERSION;
        d->hash = hash;
        d->last = (uint16_t)(len - 1);
    }
    cp_sync();
    if (cp_repeats(page, len)) {
        uint32_t any = 0;
        for (uint32_t i = 0; i < cp_min(len, 16); i++) any |= page[i];
        CP_EACH(i, 1) d->mode = any ? CP_CONST : CP_ZERO;
        if (any) CP_EACH(i, cp_min(len, 16)) d->inline_[i] = page[i];
        return;
    }
    CpLayout layout = CpLayout::unpack(hint.layout);
    CpMode mode = (CpMode)hint.mode;
    if (!hint.known) mode = cp_detect(page, len, hint.among, &s->choice, &s->groups[0], &layout);
    uint32_t bytes = 0;
    if (mode != CP_RAW && len >= 1u << layout.width_log)
        bytes = cp_with_element(layout.width_log, [&](auto element) {
            using E = decltype(element);
            return mode == CP_FIELDS ? cp_encode_fields<E>(page, len, layout, d, out, s)
                                     : cp_encode_ints<E>(page, len, layout.delta, out, s);
        });
    CP_EACH(i, 1) {
        d->mode = bytes ? mode : CP_RAW;
        d->layout = bytes ? CpLayout::pack(layout) : 0;
        d->size = (uint16_t)((bytes ? bytes : cp_pad(len, 16)) / 16);
        if (!bytes) memset(d->inline_, 0, sizeof d->inline_);
    }
}

// The fields of a page that is to be decoded; false if there is something that must not be.
CP_FN bool cp_read_fields(const CpDescriptor &d, const CpBlob &blob, const CpLayout &layout, CpField *field,
                          CpTables *tables, uint32_t *palettes) {
    const uint32_t fields = cp_fields(layout), top = layout.nibbles ? 16 : 256;
    uint32_t at = 0;
    for (uint32_t k = 0; k < CP_FIELDS_MOST; k++) {
        const uint8_t code = d.inline_[k], value = d.inline_[8 + k];
        if (k >= fields) {
            if (code != 0 || value != 0) return false;
            continue;
        }
        CpField *f = &field[k];
        CpCode read;
        if (!CpCode::unpack(code, layout.nibbles, &read)) return false;
        if (value >= top || (value != 0 && read.kind != CpCode::CONST)) return false;
        const uint32_t count = CpCode::palette(read), firsts = read.kind == CpCode::T ? (1u << read.a) - 1 : count;
        if (at + count > blob.bytes) return false;
        Lane<uint32_t> wrong;
        CP_LANES(l) wrong[l] = 0;
        cp_sync();
        f->code = read;
        f->value = value;
        CP_LANES(l) {
            for (uint32_t i = l; i < 64; i += 32) {
                f->first[i] = i < firsts ? blob.at[at + i] : 0;
                f->second[i] = i < count - firsts ? blob.at[at + firsts + i] : 0;
                wrong[l] |= f->first[i] >= top || f->second[i] >= top;
            }
        }
        cp_sync();
        if (cp_or(wrong)) return false;
        at += count;
        if (read.kind == CpCode::T && cp_has_tables(read.a, read.b))
            cp_make_tables(read.a, read.b, f->first, f->second, &tables[k]);
    }
    *palettes = at;
    return true;
}

// Whether all symbols of both fields are below 16.
CP_FN bool cp_are_nibbles(uint32_t m, const CpWork *work) {
    Lane<uint32_t> high;
    CP_LANES(l) high[l] = 0;
#ifdef __CUDACC__
    CP_EACH(i, m) high.value |= work->plane[0][i] | work->plane[1][i];
#else
    uint8_t all = 0;
    CP_EACH(i, m) all |= work->plane[0][i] | work->plane[1][i];
    high[0] = all;
#endif
    return cp_or(high) < 16;
}

// Decodes the tiles of FIELDS or INTS.
template <class E>
CP_FN bool cp_decode_tiles(const CpDescriptor &d, const CpBlob &blob, uint8_t *page, CpScratch *s) {
    const uint32_t len = cp_len(d), n = len / sizeof(E), tiles = (n + CP_TILE - 1) / CP_TILE, tail = len % sizeof(E);
    const CpLayout layout = CpLayout::unpack(d.layout);
    uint32_t palettes = 0;
    if (d.mode == CP_FIELDS && !cp_read_fields(d, blob, layout, s->field, s->tables, &palettes)) return false;
    const uint32_t table = cp_pad(palettes + tail, 4), head = cp_head(palettes, tail, tiles);
    if (head > blob.bytes) return false;
    CP_EACH(i, tail) page[n * sizeof(E) + i] = blob.at[palettes + i];
    uint32_t before = head;
    for (uint32_t t = 0; t < tiles; t++) {
        const uint32_t entry = cp_read4(blob, table + 4 * t), start = 16 * (entry & 0x3FFF), mask = entry >> 16 & 15;
        const uint32_t end = t + 1 < tiles ? 16 * (cp_read4(blob, table + 4 * t + 4) & 0x3FFF) : blob.bytes;
        const uint32_t count = cp_min(n - t * CP_TILE, CP_TILE), blocks = (count + CP_BLOCK - 1) / CP_BLOCK;
        if (entry & 0xFFF0C000 || mask >> blocks != 0 || start < before || (t == 0 && start != head)) return false;
        if (end < start || end > blob.bytes) return false;
        before = start;
        E *out = (E *)page + t * CP_TILE;
        if (d.mode == CP_INTS) {
            if (mask != 0 || !cp_ints_decode<E>(blob, start, end, count, layout.delta, out)) return false;
            continue;
        }
        CpWork *work = &s->tile[0];
        CpTile tile = {count, mask, cp_covered(mask, count), 0};
        tile.stored = tile.covered;
        uint32_t at = start;
        if (layout.bitmap) {
            at += cp_stream(tile.covered, 1);
            if (at > end) return false;
            CP_EACH(w, CP_TILE / 32) {
                const uint32_t have = tile.covered - cp_min(tile.covered, 32 * w);
                const uint32_t bits = have == 0 ? 0 : cp_read4(blob, start + 4 * w);
                work->bitmap[w] = have >= 32 ? bits : bits & ((1u << have) - 1);
            }
            cp_sync();
            Lane<uint32_t> ones;
            CP_LANES(l) ones[l] = cp_popcount(work->bitmap[2 * l]) + cp_popcount(work->bitmap[2 * l + 1]);
            tile.stored = cp_scan(ones);
        }
        if (!cp_decode_streams(blob, at, end, tile.stored, cp_fields(layout), s->field, s->tables, work)) return false;
        // Symbols of the third tier are what was not looked at yet.
        if (layout.nibbles && !cp_are_nibbles(tile.stored, work)) return false;
        cp_join<E>(out, tile, layout, work);
    }
    return true;
}

// Decodes a page into `out`, which has room for cp_len(d) bytes and is aligned to 16.
CP_FN CpVerdict cp_decode_page(const CpDescriptor &d, CpBlob blob, uint8_t *out, CpScratch *s) {
    const uint32_t len = cp_len(d);
    const CpLayout layout = CpLayout::unpack(d.layout);
    if (d.version != CP_VERSION || d.zero != 0 || d.mode > CP_INTS || blob.bytes != 16u * d.size) return CP_BROKEN;
    if (d.mode == CP_ZERO || d.mode == CP_CONST) {
        if (d.size != 0 || d.layout != 0) return CP_BROKEN;
        if (d.mode == CP_ZERO)
            for (uint32_t i = 0; i < 16; i++)
                if (d.inline_[i] != 0) return CP_BROKEN;
        CP_EACH(i, len) out[i] = d.inline_[i % 16];
    } else if (d.mode == CP_RAW) {
        if (blob.bytes != cp_pad(len, 16) || d.layout != 0) return CP_BROKEN;
        for (uint32_t i = 0; i < 16; i++)
            if (d.inline_[i] != 0) return CP_BROKEN;
        cp_copy(out, blob.at, len);
    } else {
        const bool ints = d.mode == CP_INTS;
        if (d.layout >> 6 != 0 || len < 1u << layout.width_log || blob.bytes > cp_pad(len, 16)) return CP_BROKEN;
        if (ints ? layout.rotate || layout.nibbles || layout.bitmap || layout.width_log == 0 : layout.delta != 0)
            return CP_BROKEN;
        if (layout.nibbles && layout.width_log != 0) return CP_BROKEN;
        if (ints)
            for (uint32_t i = 0; i < 16; i++)
                if (d.inline_[i] != 0) return CP_BROKEN;
        const bool done = cp_with_element(layout.width_log, [&](auto element) {
            return cp_decode_tiles<decltype(element)>(d, blob, out, s);
        });
        if (!done) return CP_BROKEN;
    }
    cp_sync();
    return cp_hash(out, len) == d.hash ? CP_GOOD : CP_WRONG_HASH;
}
