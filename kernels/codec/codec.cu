// The device build of the codec: a warp codes or decodes one page of a batch.
#include "decode.h"
#include "encode.h"

// Few enough registers that a multiprocessor has as many warps as it takes blocks, or 24.
#if defined(__CUDA_ARCH__) && (__CUDA_ARCH__ == 750 || __CUDA_ARCH__ == 860)
#define CP_BLOCKS 16
#else
#define CP_BLOCKS 24
#endif
#define CP_KERNEL extern "C" __global__ void __launch_bounds__(32, CP_BLOCKS)

// Decodes `count` pages. Page i goes from the blob at blobs + 16 * d[i].place to pages[i]; verdicts[i] says how
// that went (CpVerdict). One warp a block, `scratch` one entry a block; all pointers aligned to 16.
CP_KERNEL cp_pages_decode_v1(const CpDescriptor *d, const uint8_t *blobs, uint8_t *const *pages, uint32_t count,
                             uint32_t *verdicts, CpDecodeScratch *scratch) {
    __shared__ CpShared shared;
    for (uint32_t i = blockIdx.x; i < count; i += gridDim.x) {
        const CpBlob blob = {blobs + 16ull * d[i].place, 16u * d[i].size};
        const CpVerdict verdict = cp_decode_page(d[i], blob, pages[i], &scratch[blockIdx.x], &shared);
        if (threadIdx.x == 0) verdicts[i] = verdict;
    }
}

// Codes `count` pages: pages[i] of lens[i] bytes to d[i] and, unless that says RAW, ZERO or CONST, to the 64 KiB at
// blobs + 65536 * i.
CP_KERNEL cp_pages_encode_v1(const uint8_t *const *pages, const uint32_t *lens, CpHint hint, uint32_t count,
                             CpDescriptor *d, uint8_t *blobs, CpEncodeScratch *scratch) {
    __shared__ CpPacking shared;
    for (uint32_t i = blockIdx.x; i < count; i += gridDim.x)
        cp_encode_page(pages[i], lens[i], hint, &d[i], blobs + 65536ull * i, &scratch[blockIdx.x], &shared);
}
