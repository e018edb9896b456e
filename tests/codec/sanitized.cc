// The codec's kernels under AddressSanitizer and UndefinedBehaviorSanitizer: every page and every blob stands in a
// block of exactly its size, so one byte read or written beside it ends the program. So does each part of the work
// space.
//   sanitized SEED PAGES
#include "../../kernels/codec/cpu.cc"
#include <stdio.h>
#include <stdlib.h>

static uint64_t state;

static uint64_t any(uint64_t below) {
    uint64_t x = state += 0x9E3779B97F4A7C15ull;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ x >> 27) * 0x94D049BB133111EBull;
    return (x ^ x >> 31) % below;
}

static uint8_t *block(size_t bytes) {
    void *p;
    if (posix_memalign(&p, 64, bytes ? bytes : 1) != 0) abort();
    return (uint8_t *)p;
}

// Floats of `width` bytes as weights have them, sparse ones, counts, noise, zeros, and rows of all these.
static void make(uint8_t *to, uint32_t len) {
    uint32_t at = 0;
    while (at < len) {
        const uint32_t kind = any(7), width = 1u << any(4);
        uint32_t n = any(3) ? len - at : (uint32_t)any(len - at) + 1;
        const uint64_t base = any(1ull << 40), step = any(5);
        for (uint32_t i = 0; i < n; i++) {
            const uint32_t byte = i % width;
            uint8_t value = 0;
            if (kind == 0) value = byte + 1 == width ? 0x3C + (__builtin_ctzll(any(1 << 8) | 256) & 3) : any(256);
            if (kind == 1) value = any(4) ? 0 : any(256);
            if (kind == 2) value = (uint8_t)((base + step * (i / width)) >> 8 * byte);
            if (kind == 3) value = any(256);
            if (kind == 4) value = (uint8_t)(0x11 * byte);
            if (kind == 5) value = i / 512 % 3 ? 0 : any(16);
            to[at + i] = value;
        }
        at += n;
    }
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    state = strtoull(argv[1], nullptr, 10);
    const uint64_t pages = strtoull(argv[2], nullptr, 10);
    CpEncodeScratch *coding = (CpEncodeScratch *)block(sizeof *coding);
    CpDecodeScratch *decoding = (CpDecodeScratch *)block(sizeof *decoding);
    CpShared *shared = (CpShared *)block(sizeof *shared);
    CpPacking *packing = (CpPacking *)block(sizeof *packing);
    uint64_t modes[5] = {}, refused = 0, taken = 0;
    for (uint64_t i = 0; i < pages; i++) {
        const uint32_t len = any(4) ? 65536 : 1 + (uint32_t)any(65536);
        uint8_t *page = block(len), *back = block(len), *out = block((len + 15) / 16 * 16);
        make(page, len);
        CpDescriptor d;
        CpHint hint = {};
        if (any(3) == 0) hint.among = (uint8_t)((any(2) ? 16 : 32) | 1u << any(4));
        cp_encode_page(page, len, hint, &d, out, coding, packing);
        modes[d.mode]++;
        const uint32_t bytes = 16u * d.size;
        uint8_t *blob = block(bytes);
        if (d.mode == CP_RAW) {
            memset(blob, 0, bytes);
            memcpy(blob, page, len);
        } else {
            memcpy(blob, out, bytes);
        }
        if (cp_decode_page(d, {blob, bytes}, back, decoding, shared) != CP_GOOD || memcmp(page, back, len) != 0) {
            printf("page %llu: other bytes came back\n", (unsigned long long)i);
            return 1;
        }
        // Broken: bits of the descriptor or the blob, or the end of the blob is missing. The page's length is what
        // a caller allocates, so it stays.
        for (int k = 0; k < 24; k++) {
            CpDescriptor bad = d;
            uint32_t left = bytes;
            if (any(4) == 0 && bytes > 0) left = (uint32_t)any(bytes / 16) * 16;
            uint8_t *copy = block(left);
            memcpy(copy, blob, left);
            for (uint64_t flips = 1 + any(3); flips > 0; flips--) {
                if (left == 0 || any(3) == 0) ((uint8_t *)&bad)[any(sizeof bad)] ^= 1u << any(8);
                // The head of a blob says where everything is.
                else copy[any(any(2) ? left : cp_min(left, 256))] ^= 1u << any(8);
            }
            bad.last = d.last;
            (cp_decode_page(bad, {copy, left}, back, decoding, shared) == CP_GOOD ? taken : refused)++;
            free(copy);
        }
        free(blob);
        free(page);
        free(back);
        free(out);
    }
    free(coding);
    free(decoding);
    free(shared);
    free(packing);
    printf("zero %llu const %llu raw %llu fields %llu ints %llu refused %llu taken %llu\n",
           (unsigned long long)modes[0], (unsigned long long)modes[1], (unsigned long long)modes[2],
           (unsigned long long)modes[3], (unsigned long long)modes[4], (unsigned long long)refused,
           (unsigned long long)taken);
    return 0;
}
