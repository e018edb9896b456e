/* Linked into programs that run under AddressSanitizer: its leak check looks for pointers in the
 * heap and in globals, but not in mappings, and the library's table of blocks is one. */
#include <dlfcn.h>
#include <string.h>
#include <sys/mman.h>

void *__interceptor_mmap(void *at, size_t length, int access, int flags, int file, off_t offset);
void __lsan_register_root_region(const void *at, size_t length);

void *mmap(void *at, size_t length, int access, int flags, int file, off_t offset) {
    void *made = __interceptor_mmap(at, length, access, flags, file, offset);
    Dl_info caller;
    if (made != MAP_FAILED && access == (PROT_READ | PROT_WRITE) && flags & MAP_NORESERVE &&
        dladdr(__builtin_return_address(0), &caller) && strstr(caller.dli_fname, "/libcuda.so.1"))
        __lsan_register_root_region(made, length);
    return made;
}
