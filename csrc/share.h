// The work that the threads of a kernel share.
#pragma once

#include <algorithm>
#include <atomic>

#include "row_stats.h"

namespace LS_ISA {
namespace {

constexpr int64_t THREAD_WORTH = 1 << 15;  // elements for which waking a thread pays

// Units of work that threads take in turn.
template <class Work> void share(int64_t units, int64_t elements, int64_t threads, Work work) {
    threads = std::min({threads, units, elements / THREAD_WORTH + 1});
    if (threads <= 1) {
        for (int64_t u = 0; u < units; ++u) work(u);
        return;
    }
    struct Shared {
        std::atomic<int64_t> next{0};
        int64_t units;
        Work& work;
    } shared{{}, units, work};
    parallel(threads, [](void* data) {
        auto& s = *static_cast<Shared*>(data);
        for (int64_t u; (u = s.next.fetch_add(1, std::memory_order_relaxed)) < s.units;) s.work(u);
    }, &shared);
}

}  // namespace
}  // namespace LS_ISA
