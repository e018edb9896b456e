// All kernels of the library: one image, kernels/coldpress.fatbin.
#include "codec/codec.cu"
#undef CP_KERNEL
#include "scan/scan.cu"
