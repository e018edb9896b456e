// Whole pages: descriptor and blob to bytes.
#pragma once

#include "page.h"

// The fields of a page that is to be decoded; false if there is something that must not be.
CP_SLOW bool cp_read_fields(const CpDescriptor &d, const CpBlob &blob, const CpLayout &layout, CpPalettes *field,
                          CpTables *tables, uint32_t *palettes) {
    const uint32_t fields = cp_fields(layout), top = layout.nibbles ? 16 : 256;
    uint32_t at = 0, tabled = 0;
    CP_ROLLED
    for (uint32_t k = 0; k < CP_FIELDS_MOST; k++) {
        const uint8_t code = d.inline_[k], value = d.inline_[8 + k];
        if (k >= fields) {
            if (code != 0 || value != 0) return false;
            continue;
        }
        CpPalettes *f = &field[k];
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
        if (read.kind == CpCode::T && cp_has_tables(read.a, read.b) && tabled < CP_TABLES)
            cp_make_tables(read.a, read.b, f->first, f->second, &tables[tabled++]);
    }
    *palettes = at;
    return true;
}

// Whether all symbols of both fields are below 16.
CP_SLOW bool cp_are_nibbles(uint32_t m, const CpUnpacked *work) {
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
CP_SLOW bool cp_decode_tiles(const CpDescriptor &d, const CpBlob &blob, uint8_t *page, CpDecodeScratch *s) {
    const uint32_t len = cp_len(d), n = len / sizeof(E), tiles = (n + CP_TILE - 1) / CP_TILE, tail = len % sizeof(E);
    const CpLayout layout = CpLayout::unpack(d.layout);
    uint32_t palettes = 0;
    if (d.mode == CP_FIELDS && !cp_read_fields(d, blob, layout, s->field, s->tables, &palettes)) return false;
    const uint32_t table = cp_pad(palettes + tail, 4), head = cp_head(palettes, tail, tiles);
    if (head > blob.bytes) return false;
    CP_EACH(i, tail) page[n * sizeof(E) + i] = blob.at[palettes + i];
    uint32_t before = head;
    CP_ROLLED
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
        CpUnpacked *work = &s->tile;
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
        uint8_t *packed = (uint8_t *)cp_packed(out, tile, layout, work);
        if (!cp_decode_streams(blob, at, end, tile.stored, cp_fields(layout), s->field, s->tables, work, packed))
            return false;
        // Symbols of the third tier are what was not looked at yet.
        if (layout.nibbles && !cp_are_nibbles(tile.stored, work)) return false;
        cp_join<E>(out, tile, layout, work);
    }
    return true;
}

// The last half of a descriptor. On a processor one may stand anywhere.
CP_FN CpWords4 cp_inline(const CpDescriptor &d) {
    CpWords4 out;
#ifdef __CUDACC__
    out = cp_at<CpWords4>(d.inline_, 0);
#else
    memcpy(&out, d.inline_, 16);
#endif
    return out;
}

// Decodes a page of full tiles of 16-bit floats with no block left out (CP_DONE, CP_NO_TILE), if it is one.
CP_FN CpFastEnd cp_decode_fast(const CpDescriptor &d, const CpBlob &blob, uint8_t *out, CpShared *shared,
                               uint32_t *hash) {
    const uint32_t len = cp_len(d), tiles = len / (2 * CP_TILE);
    const CpWords4 inline_ = cp_inline(d);
    if (d.version != CP_VERSION || d.mode != CP_FIELDS || d.layout != CP_FAST_LAYOUT || d.zero != 0) return CP_NOT_HERE;
    if (len % (2 * CP_TILE) != 0 || blob.bytes != 16u * d.size || blob.bytes > len) return CP_NOT_HERE;
    if ((inline_.x[0] & 0xFFFF00FF) != 1 || (inline_.x[1] | inline_.x[2] | inline_.x[3]) != 0) return CP_NOT_HERE;
    CpCode code;
    if (!CpCode::unpack((uint8_t)(inline_.x[0] >> 8), false, &code) || !cp_fast_has(code)) return CP_NOT_HERE;
    const uint32_t palettes = CpCode::palette(code), head = cp_head(palettes, 0, tiles);
    if (head > blob.bytes) return CP_NO_TILE;
    CpFast fast;
    fast.first = cp_read4(blob, 0);
    for (uint32_t i = 0; i < 4; i++) fast.second[i] = cp_read4(blob, 3 + 4 * i);
    if (code.kind == CpCode::F)
        cp_fast_f_table(blob.at, shared);
    else
        cp_fast_t_table(shared);
    Lane<uint32_t> sums[4];
    for (uint32_t i = 0; i < 4; i++) CP_LANES(l) sums[i][l] = 0;
    uint32_t start = head;
    CP_ROLLED
    for (uint32_t t = 0; t < tiles; t++, out += 2 * CP_TILE) {
        const uint32_t entry = cp_read4(blob, cp_pad(palettes, 4) + 4 * t);
        const uint32_t next = t + 1 < tiles ? cp_read4(blob, cp_pad(palettes, 4) + 4 * t + 4) : blob.bytes / 16;
        const uint32_t end = 16 * (next & 0x3FFF);
        if (entry >> 16 != 15 || (entry & 0xC000) != 0) return CP_NOT_HERE;
        if (16 * (entry & 0x3FFF) != start || end < start || end > blob.bytes) return CP_NO_TILE;
        CpFastEnd went;
        if (code.kind == CpCode::F)
            went = cp_fast_f(blob, start, end, shared, sums, out) ? CP_DONE : CP_NO_TILE;
        else if (code.b == 2)
            went = cp_fast_t<2, true>(blob, start, end, fast, shared, sums, out);
        else if (code.b == 4)
            went = cp_fast_t<4, true>(blob, start, end, fast, shared, sums, out);
        else if (start + CP_TILE + CP_TILE / 4 + CP_AHEAD > blob.bytes)
            went = cp_fast_t<3, true>(blob, start, end, fast, shared, sums, out);
        else
            went = cp_fast_t<3, false>(blob, start, end, fast, shared, sums, out);
        if (went != CP_DONE) return went;
        start = end;
    }
    *hash = cp_fast_hash(sums, len);
    return CP_DONE;
}

// The page `words` again and again.
CP_FN void cp_fill(uint8_t *out, const CpWords4 &words, uint32_t len) {
    CP_EACH(i, len / 16) ((CpWords4 *)out)[i] = words;
    const uint32_t whole = len / 16 * 16;
    CP_EACH(i, len - whole) out[whole + i] = (uint8_t)(words.x[i / 4] >> 8 * (i % 4));
}

// Decodes any page, not in the fastest way.
CP_SLOW CpVerdict cp_decode_any(const CpDescriptor &d, const CpBlob &blob, uint8_t *out, CpDecodeScratch *s) {
    const uint32_t len = cp_len(d);
    const CpLayout layout = CpLayout::unpack(d.layout);
    const CpWords4 inline_ = cp_inline(d);
    const bool any = (inline_.x[0] | inline_.x[1] | inline_.x[2] | inline_.x[3]) != 0;
    if (d.version != CP_VERSION || d.zero != 0 || d.mode > CP_INTS || blob.bytes != 16u * d.size) return CP_BROKEN;
    if (d.mode == CP_ZERO || d.mode == CP_CONST) {
        if (d.size != 0 || d.layout != 0 || (d.mode == CP_ZERO && any)) return CP_BROKEN;
        cp_fill(out, inline_, len);
    } else if (d.mode == CP_RAW) {
        if (blob.bytes != cp_pad(len, 16) || d.layout != 0 || any) return CP_BROKEN;
        cp_copy_page(out, blob.at, len);
    } else {
        const bool ints = d.mode == CP_INTS;
        if (d.layout >> 6 != 0 || len < 1u << layout.width_log || blob.bytes > cp_pad(len, 16)) return CP_BROKEN;
        if (ints ? layout.rotate || layout.nibbles || layout.bitmap || layout.width_log == 0 : layout.delta != 0)
            return CP_BROKEN;
        if (layout.nibbles && layout.width_log != 0) return CP_BROKEN;
        if (ints && any) return CP_BROKEN;
        const bool done = cp_with_element(layout.width_log, [&](auto element) {
            return cp_decode_tiles<decltype(element)>(d, blob, out, s);
        });
        if (!done) return CP_BROKEN;
    }
    cp_sync();
    return cp_hash(out, len) == d.hash ? CP_GOOD : CP_WRONG_HASH;
}

// Decodes a page into `out`, which has room for cp_len(d) bytes. Blob and `out` are aligned to 16, on a
// device the descriptor, too.
CP_FN CpVerdict cp_decode_page(const CpDescriptor &d, const CpBlob &blob, uint8_t *out, CpDecodeScratch *s,
                               CpShared *shared) {
    if (CP_DEVICE) {
        uint32_t hash = 0;
        const CpFastEnd went = cp_decode_fast(d, blob, out, shared, &hash);
        if (went == CP_DONE) return hash == d.hash ? CP_GOOD : CP_WRONG_HASH;
        if (went == CP_NO_TILE) return CP_BROKEN;
    }
    return cp_decode_any(d, blob, out, s);
}
