// Calls the functions for PyTorch's pluggable allocator as PyTorch does: looked up by name in the
// file it was given, kept in std::function, with std::pair and std::function passed by value.
//
// usage: torch LIBRARY CASE; the cases are at the end.
#include "coldpress.h"
#include "driver.h"

#include <functional>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

namespace {

using stream_t = void *;
using pool_t = std::pair<std::uint64_t, std::uint64_t>;
using filter_t = std::function<bool(stream_t)>;

constexpr std::size_t mib = 1 << 20;
driver d;

// What CUDAPluggableAllocator keeps.
struct Allocator {
    std::function<void *(std::size_t, int, stream_t)> alloc;
    std::function<void(void *, std::size_t, int, stream_t)> dealloc;
    std::function<void(int)> init;
    std::function<void()> reset;
    std::function<void(double, int)> memory_fraction;
    std::function<void *(void *, std::size_t *)> base_alloc;
    std::function<void(void *, stream_t)> record_stream;
    std::function<void(int, pool_t, filter_t)> begin_pool;
    std::function<void(int, pool_t)> end_pool;
    std::function<void(int, pool_t)> release_pool;
};

template <typename R, typename... A>
void take(void *library, const char *name, std::function<R(A...)> &to)
{
    R (*function)(A...) = nullptr;
    driver_find(library, name, &function);
    to = function;
}

Allocator load(const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    Allocator a;
    take(library, "coldpress_torch_malloc", a.alloc);
    take(library, "coldpress_torch_free", a.dealloc);
    take(library, "coldpress_torch_init", a.init);
    take(library, "coldpress_torch_reset", a.reset);
    take(library, "coldpress_torch_memory_fraction", a.memory_fraction);
    take(library, "coldpress_torch_base_alloc", a.base_alloc);
    take(library, "coldpress_torch_record_stream", a.record_stream);
    take(library, "coldpress_torch_begin_pool", a.begin_pool);
    take(library, "coldpress_torch_end_pool", a.end_pool);
    take(library, "coldpress_torch_release_pool", a.release_pool);
    return a;
}

coldpress_stats_t stats()
{
    coldpress_stats_t s{};
    s.size = sizeof s;
    SAME(coldpress_stats(&s), COLDPRESS_OK);
    return s;
}

void use_device(int device)
{
    void *context = nullptr;
    SAME(d.init(0), 0);
    SAME(d.retain(&context, device), 0);
    SAME(d.set_current(context), 0);
}

stream_t new_stream()
{
    stream_t stream = nullptr;
    SAME(d.stream_create(&stream, 1), 0);
    return stream;
}

struct Tensor {
    void *ptr;
    std::size_t bytes;
    unsigned char value;
};

Tensor filled(const Allocator &a, std::size_t bytes, unsigned char value, stream_t stream)
{
    void *ptr = a.alloc(bytes, 0, stream);
    CHECK(ptr != nullptr);
    SAME(d.fill_async(address_of(ptr), value, bytes, stream), 0);
    return {ptr, bytes, value};
}

void check(const Tensor &t)
{
    CHECK(holds(&d, t.ptr, t.value, t.bytes));
}

// Steps of a training loop under a limit: parameters and optimizer state that live for ever,
// activations that live from forward to backward, copies on a second stream that record_stream
// announces. More is alive than fits.
void train(const Allocator &a)
{
    use_device(0);
    a.init(1);
    const stream_t compute = new_stream(), copy = new_stream();
    std::vector<Tensor> state;
    for (int i = 0; i < 10; i++)
        state.push_back(filled(a, mib + 512u * static_cast<unsigned>(i), static_cast<unsigned char>(i), compute));
    std::size_t all = 0;
    for (int step = 0; step < 6; step++) {
        std::vector<Tensor> activations;
        for (int layer = 0; layer < 16; layer++) {
            const std::size_t bytes = layer % 4 == 3 ? 2000 : mib - 4096u * static_cast<unsigned>(layer);
            activations.push_back(filled(a, bytes, static_cast<unsigned char>(step * 16 + layer), compute));
            all += bytes;
        }
        void *done = nullptr;
        SAME(d.event_create(&done, 2), 0);
        SAME(d.event_record(done, compute), 0);
        SAME(d.stream_wait(copy, done, 0), 0);
        SAME(d.event_destroy(done), 0);
        for (int layer = 15; layer >= 0; layer--) {
            Tensor activation = activations.back();
            activations.pop_back();
            // A copy of it on the other stream, which goes on after the free.
            Tensor kept = {a.alloc(activation.bytes, 0, copy), activation.bytes, activation.value};
            SAME(d.copy_async(address_of(kept.ptr), address_of(activation.ptr), kept.bytes, copy), 0);
            a.record_stream(activation.ptr, copy);
            a.dealloc(activation.ptr, activation.bytes, 0, compute);
            // Its memory may be given out now, but not be written before the copy has read it.
            Tensor gradient = filled(a, activation.bytes, 255, compute);
            SAME(d.stream_synchronize(copy), 0);
            SAME(d.stream_synchronize(compute), 0);
            check(kept);
            check(gradient);
            a.dealloc(gradient.ptr, gradient.bytes, 0, compute);
            a.dealloc(kept.ptr, kept.bytes, 0, copy);
        }
        for (Tensor &t : state) {
            check(t);
            t.value = static_cast<unsigned char>(t.value + 1);
            SAME(d.fill_async(address_of(t.ptr), t.value, t.bytes, compute), 0);
        }
        if (step == 3)
            a.reset();
    }
    SAME(d.synchronize(), 0);
    for (const Tensor &t : state) {
        check(t);
        a.dealloc(t.ptr, t.bytes, 0, compute);
    }
    const coldpress_stats_t s = stats();
    CHECK(all > s.limit_bytes);
    CHECK(s.evictions > 0 && s.restores > 0);
    CHECK(s.peak_bytes <= s.limit_bytes);
    SAME(s.logical_bytes, 0);
    SAME(s.verify_failures, 0);
    SAME(d.stream_destroy(compute), 0);
    SAME(d.stream_destroy(copy), 0);
}

// Memory freed on a stream goes to the same stream at once, without waiting for the device, and
// to others only later.
void order(const Allocator &a)
{
    // Large enough to be a block of its own.
    constexpr std::size_t size = 8 * mib;
    use_device(0);
    const stream_t one = new_stream(), two = new_stream();
    Tensor t = filled(a, size, 1, one);
    a.dealloc(t.ptr, t.bytes, 0, one);
    Tensor same = filled(a, size, 2, one);
    CHECK(same.ptr == t.ptr);
    a.dealloc(same.ptr, same.bytes, 0, one);
    Tensor other = filled(a, size, 3, two);
    CHECK(other.ptr != t.ptr);
    // Announced on two: one may not have it either.
    a.record_stream(other.ptr, one);
    a.dealloc(other.ptr, other.bytes, 0, two);
    Tensor third = filled(a, size, 4, two);
    CHECK(third.ptr != other.ptr);
    SAME(d.synchronize(), 0);
    check(third);
    a.dealloc(third.ptr, third.bytes, 0, two);
}

// What must not crash.
void edges(const Allocator &a)
{
    // Before the program has called CUDA: the library starts it.
    void *ptr = a.alloc(mib, 0, nullptr);
    CHECK(ptr != nullptr);
    void *context = nullptr;
    SAME(d.get_current(&context), 0);
    CHECK(context == nullptr);
    use_device(0);
    SAME(d.fill(address_of(ptr), 9, mib), 0);
    CHECK(holds(&d, ptr, 9, mib));

    CHECK(a.alloc(0, 0, nullptr) == nullptr);
    a.dealloc(nullptr, 0, 0, nullptr);
    CHECK(a.alloc(std::size_t(1) << 50, 0, nullptr) == nullptr);
    CHECK(a.alloc(mib, 77, nullptr) == nullptr);
    CHECK(a.alloc(mib, -1, nullptr) == nullptr);

    std::size_t size = 0;
    CHECK(a.base_alloc(static_cast<char *>(ptr) + 4321, &size) == ptr);
    SAME(size, mib);
    CHECK(a.base_alloc(ptr, nullptr) == ptr);
    a.record_stream(nullptr, nullptr);
    a.record_stream(&size, nullptr);

    // From a thread with no context, and for a device that is not the current one.
    std::thread([&] {
        void *mine = a.alloc(mib, 1, nullptr);
        CHECK(mine != nullptr);
        void *current = ptr;
        SAME(d.get_current(&current), 0);
        CHECK(current == nullptr);
        a.dealloc(mine, mib, 1, nullptr);
    }).join();
    void *there = a.alloc(mib, 1, nullptr);
    CHECK(there != nullptr && there != ptr);
    int device = -1;
    SAME(d.current_device(&device), 0);
    SAME(device, 0);
    a.dealloc(there, mib, 1, nullptr);
    a.dealloc(ptr, mib, 0, nullptr);

    // A share of the card: half of 256 MiB.
    a.memory_fraction(0.5, 0);
    void *half = a.alloc(100 * mib, 0, nullptr);
    CHECK(half != nullptr);
    CHECK(a.alloc(29 * mib, 0, nullptr) == nullptr);
    a.dealloc(half, 100 * mib, 0, nullptr);
    half = a.alloc(128 * mib, 0, nullptr);
    CHECK(half != nullptr);
    a.dealloc(half, 128 * mib, 0, nullptr);
    a.memory_fraction(1, 0);
    half = a.alloc(200 * mib, 0, nullptr);
    CHECK(half != nullptr);
    a.dealloc(half, 200 * mib, 0, nullptr);
    // After empty_cache() the card is as free as can be.
    std::size_t total = 0, before = 0;
    SAME(d.synchronize(), 0);
    a.reset();
    SAME(d.memory_info(&before, &total), 0);
    CHECK(stats().charged_bytes < 4 * mib);
}

// A pool keeps what was allocated while it was open until it is released.
void pools(const Allocator &a)
{
    use_device(0);
    const stream_t stream = new_stream();
    int asked = 0;
    std::vector<char> captured(1000, 'x');
    const filter_t filter = [&asked, captured](stream_t) {
        asked += captured[0];
        return true;
    };
    const pool_t pool(0x1234567890abcdefull, 0xfedcba0987654321ull), other(pool.second, pool.first);
    a.begin_pool(0, pool, filter);
    Tensor first = filled(a, mib, 1, stream), second = filled(a, mib, 2, stream);
    a.dealloc(first.ptr, mib, 0, stream);
    Tensor again = filled(a, mib, 3, stream);
    CHECK(again.ptr == first.ptr);
    a.dealloc(again.ptr, mib, 0, stream);
    a.end_pool(0, pool);
    // The graph still needs it.
    const std::uint64_t live = stats().logical_bytes;
    std::vector<Tensor> outside;
    for (int i = 0; i < 8; i++) {
        outside.push_back(filled(a, mib, 4, stream));
        CHECK(outside.back().ptr != first.ptr);
    }
    for (const Tensor &t : outside)
        a.dealloc(t.ptr, t.bytes, 0, stream);
    SAME(stats().logical_bytes, live);
    a.release_pool(0, other);
    SAME(stats().logical_bytes, live);
    a.release_pool(0, pool);
    SAME(stats().logical_bytes, live - mib);
    SAME(d.stream_synchronize(stream), 0);
    check(second);
    a.dealloc(second.ptr, mib, 0, stream);
    SAME(stats().logical_bytes, 0);
    SAME(asked, 0);
}

// A copy of the library beside the one in use, or one that came after the driver: it allocates
// and frees, and nothing moves.
void inactive(const Allocator &a)
{
    a.init(1);
    void *ptr = a.alloc(mib, 0, nullptr);
    CHECK(ptr != nullptr);
    use_device(0);
    SAME(d.fill(address_of(ptr), 7, mib), 0);
    CHECK(holds(&d, ptr, 7, mib));
    std::size_t size = 0;
    CHECK(a.base_alloc(static_cast<char *>(ptr) + 5, &size) == ptr);
    SAME(size, mib);
    a.record_stream(ptr, nullptr);
    a.begin_pool(0, pool_t(1, 2), filter_t());
    void *pooled = a.alloc(mib, 0, nullptr);
    CHECK(pooled != nullptr);
    a.dealloc(pooled, mib, 0, nullptr);
    a.end_pool(0, pool_t(1, 2));
    a.release_pool(0, pool_t(1, 2));
    a.reset();
    std::size_t before = 0, after = 0, total = 0;
    SAME(d.memory_info(&before, &total), 0);
    a.dealloc(ptr, mib, 0, nullptr);
    SAME(d.memory_info(&after, &total), 0);
    CHECK(after > before);
}

// A tensor that is freed by a static destructor, after main and after what exit runs.
struct Late {
    const Allocator *allocator = nullptr;
    void *ptr = nullptr;
    ~Late()
    {
        if (allocator != nullptr)
            allocator->dealloc(ptr, mib, 0, nullptr);
    }
} late;

void exits(const Allocator &a)
{
    use_device(0);
    static Allocator kept = a;
    late.allocator = new Allocator(kept);
    late.ptr = a.alloc(mib, 0, nullptr);
    CHECK(late.ptr != nullptr);
}

} // namespace

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    const std::unordered_map<std::string, void (*)(const Allocator &)> cases = {
        {"train", train}, {"order", order},       {"edges", edges}, {"pools", pools},
        {"exits", exits}, {"inactive", inactive},
    };
    const auto found = cases.find(argv[2]);
    CHECK(found != cases.end());
    // For the copy that comes too late, the driver is there first.
    if (found->first == "inactive")
        d = driver_open();
    const Allocator a = load(argv[1]);
    if (found->first != "inactive")
        d = driver_open();
    found->second(a);
}
