// Whole pages: bytes to descriptor and blob.
#pragma once

#include "page.h"

CP_SLOW void cp_count_plane(const uint8_t *plane, uint32_t m, bool all, CpHistogram *out) {
    // One group of eight in eight, another one in each row of 64.
    const uint32_t groups = (m + 7) / 8;
    CP_EACH(g, groups) {
        if (!all && g % 8 != g / 8 % 8) continue;
        for (uint32_t j = 0; j < cp_min(m - 8 * g, 8); j++) cp_add(&out->count[plane[8 * g + j]], 1);
    }
    cp_sync();
}

// Whether the field's code, a constant or F, can say every symbol of a plane.
CP_SLOW bool cp_covers(const CpField &field, const uint8_t *plane, uint32_t m) {
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

// The work space with the symbols of a tile of a page, after cp_look has been at all of them (s->about).
template <class E>
CP_SLOW CpWork *cp_symbols(const E *elements, uint32_t t, const CpLayout &layout, CpEncodeScratch *s) {
    if (!CP_DEVICE) return &s->tile[t];
    CpWork *work = &s->tile[0];
    const E *in = elements + t * CP_TILE;
    if (layout.bitmap) cp_look<E>(in, s->about[t].elements, true, work);
    cp_split<E>(in, s->about[t], layout, work);
    return work;
}

// Chooses the codes of those fields whose bits are set in `which`: from all symbols, or from an eighth of them.
template <class E>
CP_SLOW void cp_choose_fields(const E *elements, uint32_t tiles, uint32_t which, bool all, const CpLayout &layout,
                              CpEncodeScratch *s) {
    CpField *field = s->choice.field;
    CP_ROLLED
    for (uint32_t k = 0; which >> k != 0; k++)
        if (which >> k & 1) CP_EACH(i, 256) field[k].histogram.count[i] = 0;
    cp_sync();
    CP_ROLLED
    for (uint32_t t = 0; t < tiles; t++) {
        const CpWork *work = cp_symbols(elements, t, layout, s);
        CP_ROLLED
        for (uint32_t k = 0; which >> k != 0; k++)
            if (which >> k & 1) cp_count_plane(work->plane[k], s->about[t].stored, all, &field[k].histogram);
    }
    CP_ROLLED
    for (uint32_t k = 0; which >> k != 0; k++) {
        if (!(which >> k & 1)) continue;
        CpHistogram *histogram = &field[k].histogram;
        uint32_t total = 0;
        for (uint32_t i = 0; i < 256; i++) total += histogram->count[i];
        histogram->total = total;
        CpCode code = {CpCode::RAW, 0, 0};
        if (!layout.nibbles && total > 0 && cp_flat(*histogram)) {
            field[k].code = code;
            continue;
        }
        cp_rank(*histogram, &s->choice.ranking);
        cp_cheapest(s->choice.ranking, all ? 1 : 8, layout.nibbles, &code);
        cp_fill_field(s->choice.ranking, code, &field[k]);
    }
}

// Fields, as bits, with symbols that their codes cannot say.
template <class E>
CP_SLOW uint32_t cp_uncovered(const E *elements, uint32_t tiles, uint32_t fields, const CpLayout &layout,
                              CpEncodeScratch *s) {
    uint32_t open = 0, found = 0;
    for (uint32_t k = 0; k < fields; k++) {
        const CpCode &code = s->choice.field[k].code;
        open |= (uint32_t)(code.kind == CpCode::CONST || code.kind == CpCode::F) << k;
    }
    CP_ROLLED
    for (uint32_t t = 0; t < tiles && open != 0; t++) {
        const CpWork *work = cp_symbols(elements, t, layout, s);
        CP_ROLLED
        for (uint32_t k = 0; k < fields; k++)
            if (open >> k & 1 && !cp_covers(s->choice.field[k], work->plane[k], s->about[t].stored)) {
                found |= 1u << k;
                open &= ~(1u << k);
            }
    }
    return found;
}

// Bytes of the whole blob, 0 if it is not worth it. `size` gives each tile's, padded.
template <class Size>
CP_FN uint32_t cp_blob_size(uint32_t head, uint32_t tiles, uint32_t len, Size size) {
    uint32_t bytes = head;
    CP_ROLLED
    for (uint32_t t = 0; t < tiles; t++) bytes += size(t);
    return (uint64_t)bytes * 256 > (uint64_t)len * CP_WORTH ? 0 : bytes;
}

CP_FN void cp_put4(uint8_t *at, uint32_t x) { CP_EACH(i, 4) at[i] = (uint8_t)(x >> 8 * i); }

template <class E>
CP_SLOW uint32_t cp_encode_fields(const uint8_t *page, uint32_t len, const CpLayout &layout, CpDescriptor *d,
                                uint8_t *out, CpEncodeScratch *s) {
    const uint32_t n = len / sizeof(E), tiles = (n + CP_TILE - 1) / CP_TILE, tail = len % sizeof(E);
    const uint32_t fields = cp_fields(layout);
    const E *elements = (const E *)page;
    uint32_t stored = 0;
    CP_ROLLED
    for (uint32_t t = 0; t < tiles; t++) {
        const E *in = elements + t * CP_TILE;
        CpWork *work = &s->tile[CP_DEVICE ? 0 : t];
        const CpTile about = cp_look<E>(in, cp_min(n - t * CP_TILE, CP_TILE), layout.bitmap, work);
        cp_sync();
        s->about[t] = about;
        stored += about.stored;
        if (!CP_DEVICE) cp_split<E>(in, about, layout, work);
    }
    cp_sync();
    // From a sample, and from all symbols if the sample did not tell.
    CpField *field = s->choice.field;
    const bool few = stored < 4 * CP_TILE;
    cp_choose_fields(elements, tiles, (1u << fields) - 1, few, layout, s);
    if (!few) {
        const uint32_t open = cp_uncovered(elements, tiles, fields, layout, s);
        if (open != 0) cp_choose_fields(elements, tiles, open, true, layout, s);
    }
    uint32_t palettes = 0;
    for (uint32_t k = 0; k < fields; k++) palettes += CpCode::palette(field[k].code);
    const uint32_t head = cp_head(palettes, tail, tiles);
    uint32_t size[CP_TILES_MOST];
    const uint32_t bytes = cp_blob_size(head, tiles, len, [&](uint32_t t) {
        const uint32_t bitmap = layout.bitmap ? cp_stream(s->about[t].covered, 1) : 0;
        CpWork *work = cp_symbols(elements, t, layout, s);
        return size[t] = cp_pad(bitmap + cp_streams_size(s->about[t].stored, fields, field, work), 16);
    });
    if (bytes == 0) return 0;
    CP_EACH(i, bytes / 4) ((uint32_t *)out)[i] = 0;
    cp_sync();
    uint8_t *at = out;
    CP_ROLLED
    for (uint32_t k = 0; k < fields; k++) {
        const CpField &own = field[k];
        const uint32_t both = CpCode::palette(own.code);
        const uint32_t firsts = own.code.kind == CpCode::T ? (1u << own.code.a) - 1 : both;
        CP_EACH(i, firsts) at[i] = own.first[i];
        CP_EACH(i, both - firsts) at[firsts + i] = own.second[i];
        at += both;
        CP_EACH(i, 1) {
            d->inline_[k] = CpCode::pack(own.code);
            d->inline_[8 + k] = own.code.kind == CpCode::CONST ? own.value : 0;
        }
    }
    CP_EACH(i, tail) at[i] = page[n * sizeof(E) + i];
    at = out + cp_pad(palettes + tail, 4);
    uint32_t start = head;
    CP_ROLLED
    for (uint32_t t = 0; t < tiles; t++) {
        cp_put4(at + 4 * t, start / 16 | s->about[t].mask << 16);
        uint8_t *streams = out + start;
        CpWork *work = cp_symbols(elements, t, layout, s);
        if (layout.bitmap) {
            CP_EACH(w, cp_stream(s->about[t].covered, 1) / 4) ((uint32_t *)streams)[w] = work->bitmap[w];
            streams += cp_stream(s->about[t].covered, 1);
        }
        // Where each lane's codes go.
        if (CP_DEVICE) cp_streams_size(s->about[t].stored, fields, field, work);
        cp_encode_streams(streams, s->about[t].stored, fields, field, work);
        start += size[t];
    }
    return bytes;
}

template <class E>
CP_SLOW uint32_t cp_encode_ints(const uint8_t *page, uint32_t len, bool delta, uint8_t *out, CpEncodeScratch *s) {
    const uint32_t n = len / sizeof(E), tiles = (n + CP_TILE - 1) / CP_TILE, tail = len % sizeof(E);
    const uint32_t head = cp_head(0, tail, tiles);
    const E *elements = (const E *)page;
    uint32_t size[CP_TILES_MOST];
    const uint32_t bytes = cp_blob_size(head, tiles, len, [&](uint32_t t) {
        const uint32_t count = cp_min(n - t * CP_TILE, CP_TILE);
        CpGroups *groups = &s->groups[CP_DEVICE ? 0 : t];
        cp_ints_look<E>(elements + t * CP_TILE, count, delta, groups);
        return size[t] = cp_pad(cp_ints_size<E>(*groups, count), 16);
    });
    if (bytes == 0) return 0;
    CP_EACH(i, bytes / 4) ((uint32_t *)out)[i] = 0;
    cp_sync();
    CP_EACH(i, tail) out[i] = page[n * sizeof(E) + i];
    uint32_t start = head;
    CP_ROLLED
    for (uint32_t t = 0; t < tiles; t++) {
        cp_put4(out + cp_pad(tail, 4) + 4 * t, start / 16);
        const E *in = elements + t * CP_TILE;
        const uint32_t count = cp_min(n - t * CP_TILE, CP_TILE);
        CpGroups *groups = &s->groups[CP_DEVICE ? 0 : t];
        if (CP_DEVICE) cp_ints_look<E>(in, count, delta, groups);
        cp_ints_encode<E>(in, count, delta, *groups, out + start);
        start += size[t];
    }
    return bytes;
}

// Not a length of a blob: the page is not for the fast path.
enum : uint32_t { CP_ELSEWHERE = UINT32_MAX };

// Codes of both fields of a page of full tiles, as cp_choose_field takes them from a sample; false if they are not
// for the fast path.
CP_SLOW bool cp_choose_fast(const uint8_t *page, uint32_t tiles, CpEncodeScratch *s) {
    for (uint32_t k = 0; k < 2; k++) CP_EACH(i, 256) s->choice.field[k].histogram.count[i] = 0;
    cp_sync();
    CP_ROLLED
    for (uint32_t t = 0; t < tiles; t++)
        CP_LANES(l) {
            const CpWords4 words = cp_at<CpWords4>(page, 2 * CP_TILE * t + 16 * (8 * l + l % 8));
            for (uint32_t i = 0; i < 8; i++) {
                const uint32_t element = cp_funnel(words.x[i / 2], words.x[i / 2], 31) >> 16 * (i % 2);
                for (uint32_t k = 0; k < 2; k++) cp_add(&s->choice.field[k].histogram.count[element >> 8 * k & 255], 1);
            }
        }
    cp_sync();
    for (uint32_t k = 0; k < 2; k++) {
        CpHistogram *histogram = &s->choice.field[k].histogram;
        CpCode code = {CpCode::RAW, 0, 0};
        histogram->total = tiles * CP_TILE / 8;
        if (!cp_flat(*histogram)) {
            cp_rank(*histogram, &s->choice.ranking);
            cp_cheapest(s->choice.ranking, 8, false, &code);
        }
        if (k == 0 ? code.kind != CpCode::RAW : !cp_fast_has(code)) return false;
        s->choice.field[k].code = code;
    }
    cp_fill_field(s->choice.ranking, s->choice.field[1].code, &s->choice.field[1]);
    return true;
}

// Codes a page of full tiles of 16-bit floats, if it is one that the fast path has codes for.
CP_FN uint32_t cp_encode_fast(const uint8_t *page, uint32_t len, const CpLayout &layout, CpDescriptor *d, uint8_t *out,
                              CpEncodeScratch *s, CpPacking *shared, uint32_t *hash) {
    const uint32_t tiles = len / (2 * CP_TILE);
    // Where there are fewer tiles, codes follow from all symbols.
    if (CpLayout::pack(layout) != CP_FAST_LAYOUT || len % (2 * CP_TILE) != 0 || tiles < 4) return CP_ELSEWHERE;
    if (!cp_choose_fast(page, tiles, s)) return CP_ELSEWHERE;
    const CpField &field = s->choice.field[1];
    const CpCode code = field.code;
    const uint32_t palettes = CpCode::palette(code), head = cp_head(palettes, 0, tiles);
    const uint32_t firsts = code.kind == CpCode::T ? 3 : palettes;
    CP_EACH(i, head) out[i] = i < firsts ? field.first[i] : i < palettes ? field.second[i - firsts] : 0;
    cp_pack_tables(field, shared);
    Lane<uint32_t> sums[4];
    for (uint32_t i = 0; i < 4; i++) CP_LANES(l) sums[i][l] = 0;
    uint32_t at = head;
    for (uint32_t t = 0; t < tiles; t++, page += 2 * CP_TILE) {
        cp_put4(out + cp_pad(palettes, 4) + 4 * t, at / 16 | 15 << 16);
        const uint32_t bytes = code.kind == CpCode::F ? cp_pack_f(page, sums, shared, out + at, len - at)
                               : code.b == 2          ? cp_pack_t<2>(page, sums, shared, out + at, len - at)
                               : code.b == 3          ? cp_pack_t<3>(page, sums, shared, out + at, len - at)
                                                      : cp_pack_t<4>(page, sums, shared, out + at, len - at);
        if (bytes == 0) return CP_ELSEWHERE;
        at += bytes;
    }
    *hash = cp_fast_hash(sums, len);
    CP_EACH(i, 1) {
        d->inline_[0] = CpCode::pack(s->choice.field[0].code);
        d->inline_[1] = CpCode::pack(code);
    }
    return cp_blob_size(at, 0, len, [](uint32_t) { return 0; });
}

// Codes a page of any kind, not in the fastest way.
CP_SLOW uint32_t cp_encode_any(const uint8_t *page, uint32_t len, CpMode mode, const CpLayout &layout,
                               CpDescriptor *d, uint8_t *out, CpEncodeScratch *s) {
    return cp_with_element(layout.width_log, [&](auto element) {
        using E = decltype(element);
        return mode == CP_FIELDS ? cp_encode_fields<E>(page, len, layout, d, out, s)
                                 : cp_encode_ints<E>(page, len, layout.delta, out, s);
    });
}

// Codes a page of 1 to 65,536 bytes. `out` has room for as many, padded to 16; what is written there
// means nothing for a page that stays as it is (RAW).
CP_FN void cp_encode_page(const uint8_t *page, uint32_t len, CpHint hint, CpDescriptor *d, uint8_t *out, CpEncodeScratch *s,
                          CpPacking *shared) {
    CP_EACH(i, 1) {
        memset(d, 0, sizeof *d);
        d->version = CP_VERSION;
        d->last = (uint16_t)(len - 1);
    }
    cp_sync();
    if (cp_repeats(page, len)) {
        uint32_t any = 0;
        for (uint32_t i = 0; i < cp_min(len, 16); i++) any |= page[i];
        const uint32_t hash = cp_hash(page, len);
        CP_EACH(i, 1) {
            d->mode = any ? CP_CONST : CP_ZERO;
            d->hash = hash;
        }
        if (any) CP_EACH(i, cp_min(len, 16)) d->inline_[i] = page[i];
        return;
    }
    CpLayout layout = CpLayout::unpack(hint.layout);
    CpMode mode = (CpMode)hint.mode;
    if (!hint.known) mode = cp_detect(page, len, hint.among, &s->choice, &s->groups[0], &layout);
    uint32_t bytes = CP_ELSEWHERE, hash = 0;
    if (mode == CP_RAW || len < 1u << layout.width_log)
        bytes = 0;
    else if (CP_DEVICE && mode == CP_FIELDS)
        bytes = cp_encode_fast(page, len, layout, d, out, s, shared, &hash);
    if (bytes == 0 || bytes == CP_ELSEWHERE) hash = cp_hash(page, len);
    if (bytes == CP_ELSEWHERE) bytes = cp_encode_any(page, len, mode, layout, d, out, s);
    CP_EACH(i, 1) {
        d->hash = hash;
        d->mode = bytes ? mode : CP_RAW;
        d->layout = bytes ? CpLayout::pack(layout) : 0;
        d->size = (uint16_t)((bytes ? bytes : cp_pad(len, 16)) / 16);
        if (!bytes) memset(d->inline_, 0, sizeof d->inline_);
    }
}
