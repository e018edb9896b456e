// coldpress.h in C++17, from many threads at once: each has its own tags and streams, and all
// evict and restore each other's memory while it is in use.
//
// usage: threads VERSION   what coldpress_version() has to be; 0 runs without coldpress
#include "coldpress.h"
#include "driver.h"

#include <atomic>
#include <string>
#include <thread>
#include <vector>

extern "C" int other_file_version(void);
extern "C" void *other_file_table(void);

namespace {

constexpr std::size_t bytes = 512 * 1024;
std::atomic<int> evictions_asked{0};

void work(const driver &d, void *context, int number, bool managed)
{
    SAME(d.set_current(context), 0);
    void *stream = nullptr;
    SAME(d.stream_create(&stream, 1), 0);
    const std::string tag = "thread " + std::to_string(number);
    const std::string other = "thread " + std::to_string((number + 1) % 4);
    std::vector<std::pair<void *, unsigned char>> live;
    unsigned random = 12345u + static_cast<unsigned>(number);
    for (int step = 0; step < 60; step++) {
        random = random * 1664525u + 1013904223u;
        const auto byte = static_cast<unsigned char>(random >> 24);
        SAME(coldpress_tag_push(tag.c_str()), COLDPRESS_OK);
        void *ptr = nullptr;
        SAME(coldpress_malloc(&ptr, bytes), COLDPRESS_OK);
        SAME(coldpress_tag_pop(), COLDPRESS_OK);
        SAME(d.fill_async(address_of(ptr), byte, bytes, stream), 0);
        live.emplace_back(ptr, byte);
        if (managed && step % 5 == 0) {
            const int status = coldpress_evict(nullptr, other.c_str(), 0);
            CHECK(status == COLDPRESS_OK || status == COLDPRESS_E_BUSY);
            evictions_asked += status == COLDPRESS_OK;
        }
        if (managed && step % 7 == 0) {
            const int status = coldpress_restore(nullptr, tag.c_str(), 0);
            CHECK(status == COLDPRESS_OK || status == COLDPRESS_E_OUT_OF_MEMORY);
        }
        if (live.size() > 6) {
            const auto [old, was] = live[random % live.size()];
            SAME(d.stream_synchronize(stream), 0);
            CHECK(holds(&d, old, was, bytes));
        }
        if (live.size() > 8) {
            SAME(coldpress_free(live.front().first), COLDPRESS_OK);
            live.erase(live.begin());
        }
        // Errors are a thread's own.
        SAME(coldpress_tag_pop(), managed ? COLDPRESS_E_INVALID : COLDPRESS_OK);
        CHECK(!managed || std::string(coldpress_last_error()).find("tag_pop") == 0);
    }
    SAME(d.stream_synchronize(stream), 0);
    for (const auto &[ptr, byte] : live) {
        CHECK(holds(&d, ptr, byte, bytes));
        SAME(coldpress_free(ptr), COLDPRESS_OK);
    }
    SAME(d.stream_destroy(stream), 0);
}

} // namespace

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    const driver d = driver_open();
    // The first look-up happens in all threads at once.
    std::vector<std::thread> threads;
    std::atomic<bool> go{false};
    for (int i = 0; i < 4; i++)
        threads.emplace_back([&] {
            while (!go)
                ;
            SAME(coldpress_version(), atoi(argv[1]));
        });
    go = true;
    for (auto &thread : threads)
        thread.join();
    SAME(other_file_version(), atoi(argv[1]));
    CHECK(other_file_table() == &coldpress_detail_table_v1);

    SAME(d.init(0), 0);
    void *context = nullptr;
    SAME(d.retain(&context, 0), 0);
    const bool managed = coldpress_version() != 0;
    threads.clear();
    for (int i = 0; i < 4; i++)
        threads.emplace_back(work, std::cref(d), context, i, managed);
    for (auto &thread : threads)
        thread.join();
    if (managed) {
        CHECK(evictions_asked > 0);
        coldpress_stats_t stats{};
        stats.size = sizeof stats;
        SAME(coldpress_stats(&stats), COLDPRESS_OK);
        CHECK(stats.evictions > 0 && stats.restores > 0);
        SAME(stats.logical_bytes, 0);
        SAME(stats.verify_failures, 0);
    }
}
