// The streams of one tile of FIELDS: planes of symbols to bytes and back.
#pragma once

#include "tables.h"

// One field of a page: its code, its constant or palettes.
struct CpPalettes {
    CpCode code;
    uint8_t value;
    uint8_t first[64], second[64];
};

// Symbols of one field, counted.
struct CpHistogram {
    uint32_t count[256];
    uint32_t total;
};

// A field of a page that is being coded.
struct CpField : CpPalettes {
    union {
        // Until it has a code.
        CpHistogram histogram;
        // By symbol: its code in the first tier, in the second << 8; what CP_SECOND and CP_THIRD say.
        uint32_t codes[256];
    };
};

// The symbol has a code in the second tier; it stands in the third (with F: it has no code).
enum : uint32_t { CP_SECOND = 1u << 16, CP_THIRD = 1u << 24 };

CP_FN uint32_t cp_fields(const CpLayout &layout) { return layout.nibbles ? 2 : 1u << layout.width_log; }

// Decodes an F stream to its plane.
CP_FN void cp_decode_f(const CpBlob &blob, uint32_t stream, uint32_t m, const CpPalettes &field, uint8_t *plane) {
    const uint32_t bits = field.code.a, ones = (1u << bits) - 1;
    CP_EACH(group, (m + 7) / 8) {
        uint64_t codes = cp_codes(blob, stream, 8 * group, bits), symbols = 0;
        for (uint32_t j = 0; j < 8; j++, codes >>= bits) symbols |= (uint64_t)field.first[codes & ones] << 8 * j;
        cp_store8(plane + cp_element(m, 8 * group), symbols);
    }
    cp_sync();
}

// How many codes of each lane lead on to the second tier.
CP_FN void cp_count_t(const CpBlob &blob, uint32_t stream, uint32_t m, uint32_t bits, Lane<uint32_t> &count) {
    // As many at once as are whole bytes, and eight of these at most.
    const uint32_t most = 8 / bits * 8, per = cp_per_lane(m);
    const uint64_t each = cp_each_of(most, bits);
    CP_LANES(l) {
        const uint32_t end = cp_min(m, (l + 1) * per);
        count[l] = 0;
        CP_ROLLED
        for (uint32_t p = l * per; p < end; p += most) {
            const uint64_t codes = cp_read8(blob, stream + p / 8 * bits), own = cp_low(cp_min(end - p, most) * bits);
            count[l] += cp_popcount(cp_all_ones(codes, bits, each & own));
        }
    }
}

// Decodes the first two tiers of a T stream to its plane. `rank`: codes of the second tier before each
// lane's. Symbols of the third tier are left open. `tables` may be none.
CP_FN void cp_decode_t(const CpBlob &blob, uint32_t stream, uint32_t second, uint32_t m, const CpPalettes &field,
                       const CpTables *tables, Lane<uint32_t> &rank, uint8_t *plane) {
    const uint32_t a = field.code.a, b = field.code.b, top = (1u << a) - 1, last = (1u << b) - 1;
    const uint32_t per = cp_per_lane(m);
    // Tables may write symbols of codes that are none; they stay inside the plane's margin.
    CP_LANES(l) {
        uint32_t bit = 8 * second + rank[l] * b;
        const uint32_t end = cp_min(m, (l + 1) * per);
        if (tables != nullptr) {
            cp_decode_by_tables(a, b, blob, stream, bit, m, l * per, end, *tables, plane);
            continue;
        }
        CP_ROLLED
        for (uint32_t p = l * per; p < end; p += 8) {
            uint64_t codes = cp_codes(blob, stream, p, a), symbols = 0;
            uint64_t window = cp_read8(blob, bit / 8) >> bit % 8;
            for (uint32_t j = 0; j < 8; j++, codes >>= a) {
                const uint32_t code = codes & top;
                const bool miss = code == top;
                symbols |= (uint64_t)(miss ? field.second[window & last] : field.first[code]) << 8 * j;
                window >>= miss ? b : 0;
                bit += miss ? b : 0;
            }
            cp_store8(plane + cp_element(m, p), symbols);
        }
    }
    cp_sync();
}

// How many of each lane's second codes lead on to the third tier.
CP_FN void cp_count_escapes(const CpBlob &blob, uint32_t second, uint32_t bits, Lane<uint32_t> &rank, uint32_t all,
                            Lane<uint32_t> &escapes) {
    const uint32_t most = 57 / bits;
    const uint64_t each = cp_each_of(most, bits);
    Lane<uint32_t> after;
    CP_LANES(l) after[l] = all;
    cp_next_lane(rank, after);
    CP_LANES(l) {
        uint32_t found = 0;
        CP_ROLLED
        for (uint32_t i = rank[l]; i < after[l]; i += most) {
            const uint32_t n = cp_min(after[l] - i, most);
            found += cp_popcount(cp_all_ones(cp_read_bits(blob, 8 * second + i * bits, n * bits), bits, each));
        }
        escapes[l] = found;
    }
}

// Puts the third tier's symbols in their places. `rank` as above, `before`: escapes before each lane's,
// `all` of them.
CP_FN void cp_escapes_t(const CpBlob &blob, uint32_t stream, uint32_t second, uint32_t third, uint32_t m,
                        const CpPalettes &field, Lane<uint32_t> &rank, Lane<uint32_t> &before, uint32_t all,
                        uint8_t *plane) {
    const uint32_t a = field.code.a, b = field.code.b, last = (1u << b) - 1, per = cp_per_lane(m);
    const uint64_t each = cp_each_of(8, a), each_second = cp_each_of(8, b);
    Lane<uint32_t> after;
    CP_LANES(l) after[l] = all;
    cp_next_lane(before, after);
    CP_LANES(l) {
        uint32_t bit = 8 * second + rank[l] * b, from = before[l];
        CP_ROLLED
        for (uint32_t p = l * per; from < after[l] && p < cp_min(m, (l + 1) * per); p += 8) {
            const uint32_t n = cp_min(m - p, 8);
            uint64_t misses = cp_all_ones(cp_codes(blob, stream, p, a) & ((1ull << n * a) - 1), a, each);
            const uint32_t bits = cp_popcount(misses) * b;
            uint64_t codes = cp_read_bits(blob, bit, bits);
            bit += bits;
            // Seldom is one of the eight in the third tier.
            if (cp_all_ones(codes, b, each_second) == 0) continue;
            for (uint32_t j = 0; misses != 0; j++, misses >>= a) {
                if (!(misses & 1)) continue;
                if ((codes & last) == last)
                    plane[cp_element(m, p) + j] = (uint8_t)cp_read_bits(blob, 8 * (third + from++), 8);
                codes >>= b;
            }
        }
    }
    cp_sync();
}

// Decodes the streams from `at` on, which end before `end`, to the planes; false if they do not. Where there are more
// fields than planes, those that are done go to `packed`, half an element each.
CP_SLOW bool cp_decode_streams(const CpBlob &blob, uint32_t at, uint32_t end, uint32_t m, uint32_t fields,
                             const CpPalettes *field, const CpTables *tables, CpUnpacked *work, uint8_t *packed) {
    uint32_t first[CP_FIELDS_MOST], second[CP_FIELDS_MOST], misses[CP_FIELDS_MOST];
    Lane<uint32_t> rank[CP_FIELDS_MOST];
    CP_ROLLED
    for (uint32_t k = 0; k < fields; k++) {
        if (field[k].code.kind != CpCode::RAW) continue;
        first[k] = at;
        if (at + m > end) return false;
        at += cp_pad(m, 4);
    }
    CP_ROLLED
    for (uint32_t k = 0; k < fields; k++) {
        if (field[k].code.kind < CpCode::F) continue;
        first[k] = at;
        at += cp_stream(m, field[k].code.a);
    }
    if (at > end) return false;
    CP_ROLLED
    for (uint32_t k = 0; k < fields; k++) {
        if (field[k].code.kind != CpCode::T) continue;
        cp_count_t(blob, first[k], m, field[k].code.a, rank[k]);
        second[k] = at;
        misses[k] = cp_scan(rank[k]);
        at += cp_stream(misses[k], field[k].code.b);
    }
    if (at > end) return false;
    uint32_t tabled = 0;
    CP_ROLLED
    for (uint32_t k = 0; k < fields; k++) {
        const CpCode &code = field[k].code;
        uint8_t *plane = work->plane[k % CP_PLANES];
        if (code.kind == CpCode::CONST) CP_EACH(i, m) plane[i] = field[k].value;
        if (code.kind == CpCode::RAW) cp_copy(plane, blob.at + first[k], m);
        if (code.kind < CpCode::F) cp_sync();
        if (code.kind == CpCode::F) cp_decode_f(blob, first[k], m, field[k], plane);
        if (code.kind == CpCode::T) {
            const bool has = cp_has_tables(code.a, code.b) && tabled < CP_TABLES;
            cp_decode_t(blob, first[k], second[k], m, field[k], has ? &tables[tabled] : nullptr, rank[k], plane);
            tabled += has;
            Lane<uint32_t> escapes;
            cp_count_escapes(blob, second[k], code.b, rank[k], misses[k], escapes);
            const uint32_t count = cp_scan(escapes);
            if (at + count > end) return false;
            if (count > 0) cp_escapes_t(blob, first[k], second[k], at, m, field[k], rank[k], escapes, count, plane);
            at += cp_pad(count, 4);
        }
        if (k + 1 == CP_PLANES && k + 1 < fields) cp_from_half(packed, m, 0, work->plane);
    }
    return true;
}

// How many symbols of a plane stand in the second tier, and in the third; each lane's in `work`.
struct CpTiers {
    uint32_t second, third;
};

CP_FN CpTiers cp_tiers(uint32_t k, uint32_t m, const CpField &field, CpWork *work) {
    const uint8_t *plane = work->plane[k];
    const uint32_t per = cp_per_lane(m);
    Lane<uint32_t> misses, escapes;
    CP_LANES(l) {
        uint32_t sum = 0;
        CP_ROLLED
        for (uint32_t p = l * per; p < cp_min(m, (l + 1) * per); p += 8) {
            const uint8_t *at = plane + cp_element(m, p);
            const uint32_t n = cp_min(m - p, 8);
            for (uint32_t j = 0; j < n; j++) sum += field.codes[at[j]] >> 16;
        }
        misses[l] = sum & 255;
        escapes[l] = sum >> 8;
    }
    CpTiers out;
    out.second = cp_scan(misses);
    out.third = cp_scan(escapes);
    CP_LANES(l) {
        work->misses[k][l] = (uint16_t)misses[l];
        work->escapes[k][l] = (uint16_t)escapes[l];
    }
    work->tiers[k] = out.second | out.third << 16;
    return out;
}

// Bytes of a tile's streams, the bitmap not among them.
CP_SLOW uint32_t cp_streams_size(uint32_t m, uint32_t fields, const CpField *field, CpWork *work) {
    uint32_t bytes = 0;
    CP_ROLLED
    for (uint32_t k = 0; k < fields; k++) {
        const CpCode &code = field[k].code;
        if (code.kind == CpCode::RAW) bytes += cp_pad(m, 4);
        if (code.kind >= CpCode::F) bytes += cp_stream(m, code.a);
        if (code.kind != CpCode::T) continue;
        const CpTiers tiers = cp_tiers(k, m, field[k], work);
        bytes += cp_stream(tiers.second, code.b) + cp_pad(tiers.third, 4);
    }
    return bytes;
}

// Writes a tile's streams to `at`, which is zero as far as they go, after cp_streams_size.
CP_SLOW void cp_encode_streams(uint8_t *at, uint32_t m, uint32_t fields, const CpField *field, const CpWork *work) {
    CP_ROLLED
    for (uint32_t k = 0; k < fields; k++) {
        if (field[k].code.kind != CpCode::RAW) continue;
        cp_copy(at, work->plane[k], m);
        at += cp_pad(m, 4);
    }
    uint8_t *second = at;
    CP_ROLLED
    for (uint32_t k = 0; k < fields; k++)
        if (field[k].code.kind >= CpCode::F) second += cp_stream(m, field[k].code.a);
    uint8_t *third = second;
    CP_ROLLED
    for (uint32_t k = 0; k < fields; k++)
        if (field[k].code.kind == CpCode::T) third += cp_stream(work->tiers[k] & 0xFFFF, field[k].code.b);
    const uint32_t per = cp_per_lane(m);
    CP_ROLLED
    for (uint32_t k = 0; k < fields; k++) {
        const CpCode &code = field[k].code;
        if (code.kind < CpCode::F) continue;
        const bool tiered = code.kind == CpCode::T;
        const uint32_t a = code.a, b = code.b, *table = field[k].codes;
        const uint8_t *plane = work->plane[k];
        uint32_t *words = (uint32_t *)second;
        CP_LANES(l) {
            uint32_t bit = tiered ? work->misses[k][l] * b : 0, escape = tiered ? work->escapes[k][l] : 0;
            CP_ROLLED
            for (uint32_t p = l * per; p < cp_min(m, (l + 1) * per); p += 8) {
                const uint8_t *symbols = plane + cp_element(m, p);
                const uint32_t n = cp_min(m - p, 8);
                uint64_t codes = 0, next = 0;
                uint32_t held = 0;
                for (uint32_t j = 0; j < n; j++) {
                    const uint32_t both = table[symbols[j]];
                    codes |= (uint64_t)(both & 255) << a * j;
                    next |= (uint64_t)(both >> 8 & 255) << held;
                    held += both & CP_SECOND ? b : 0;
                    if (both & CP_THIRD) third[escape++] = symbols[j];
                }
                for (uint32_t i = 0; i < (n * a + 7) / 8; i++) at[p / 8 * a + i] = (uint8_t)(codes >> 8 * i);
                cp_or_bits(words, bit, (uint32_t)next, cp_min(held, 32));
                if (held > 32) cp_or_bits(words, bit + 32, (uint32_t)(next >> 32), held - 32);
                bit += held;
            }
        }
        at += cp_stream(m, a);
        if (!tiered) continue;
        second += cp_stream(work->tiers[k] & 0xFFFF, b);
        third += cp_pad(work->tiers[k] >> 16, 4);
    }
    cp_sync();
}
