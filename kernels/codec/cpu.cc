// The CPU build of the codec: the functions that Rust calls. Compiled once for every x86-64 and once for
// those with AVX2; CP_ISA is the end of their names.
#include "decode.h"
#include "encode.h"

#define CP_JOINED(name, isa) name##_##isa
#define CP_JOIN(name, isa) CP_JOINED(name, isa)
#define CP_NAME(name) CP_JOIN(name, CP_ISA)
#ifndef CP_EXPORT
#define CP_EXPORT extern "C" __attribute__((visibility("hidden")))
#endif

// The work space for pages, one after another.
struct CpScratch {
    CpEncodeScratch encode;
    CpDecodeScratch decode;
    // On a device these two are a block's shared memory.
    CpShared shared;
    CpPacking packing;
};

// Sizes for callers that do not know the types: of that, and of what a device's kernels take, whatever this build is.
CP_EXPORT uint32_t CP_NAME(cp_scratch_bytes)() { return sizeof(CpScratch); }
CP_EXPORT uint32_t CP_NAME(cp_encode_scratch_bytes)() { return CP_ENCODE_SCRATCH; }
CP_EXPORT uint32_t CP_NAME(cp_decode_scratch_bytes)() { return CP_DECODE_SCRATCH; }

// Codes `len` bytes at `page`; see cp_encode_page. All pointers are aligned to 16.
CP_EXPORT void CP_NAME(cp_page_encode)(const uint8_t *page, uint32_t len, CpHint hint, CpDescriptor *d, uint8_t *out,
                                       CpScratch *scratch) {
    cp_encode_page(page, len, hint, d, out, &scratch->encode, &scratch->packing);
}

// Decodes; see cp_decode_page.
CP_EXPORT uint32_t CP_NAME(cp_page_decode)(const CpDescriptor *d, const uint8_t *blob, uint32_t bytes, uint8_t *out,
                                           CpScratch *scratch) {
    return cp_decode_page(*d, {blob, bytes}, out, &scratch->decode, &scratch->shared);
}
