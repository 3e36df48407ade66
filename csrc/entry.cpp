// The C interface of the kernels, and the choices made at run time: instruction set, threads, huge pages.

#include <thread>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <dlfcn.h>
#endif
#if defined(__linux__)
#include <pthread.h>
#include <sys/mman.h>
#endif

#include "sigmoid.h"

namespace {

int64_t best_isa() {
#if defined(LS_X86)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return __builtin_cpu_supports("avx512bf16") ? 3 : 2;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"))
        return 1;
#endif
    return 0;
}

int64_t wanted_isa(int64_t asked) {
    static const int64_t best = best_isa();
    return asked < 0 ? best : asked;
}

#if defined(__linux__)
// Fresh pages cost more than the arithmetic; of 2 MiB each they cost a third.
void advise_huge_pages(char* from, char* to) {
    const uintptr_t size = uintptr_t(2) << 20;
    const uintptr_t start = (reinterpret_cast<uintptr_t>(from) + size - 1) / size * size;
    const uintptr_t end = reinterpret_cast<uintptr_t>(to) / size * size;
    if (end > start) madvise(reinterpret_cast<void*>(start), end - start, MADV_HUGEPAGE);
}

// A forked child has OpenMP's record of its threads without the threads, for which GNU's would wait for ever.
bool forked = false;
[[maybe_unused]] const int at_fork = pthread_atfork(nullptr, nullptr, [] { forked = true; });
#else
void advise_huge_pages(char*, char*) {}
#endif

}  // namespace

void parallel(int64_t threads, void (*work)(void*), void* data) {
#if defined(__linux__)
    if (forked) return work(data);
    // The OpenMP threads that torch has already started, whichever library they are of: a second pool beside
    // them would wait for the same cores.
    using Parallel = void (*)(void (*)(void*), void*, unsigned, unsigned);
    static const auto openmp = reinterpret_cast<Parallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
    if (openmp) return openmp(work, data, unsigned(threads), 0);
#endif
    std::vector<std::thread> others;
    for (int64_t t = 1; t < threads; ++t) others.emplace_back(work, data);
    work(data);
    for (auto& other : others) other.join();
}

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT int64_t labelsmooth_isa() { return best_isa(); }

EXPORT int64_t labelsmooth_call_size() { return sizeof(Call); }

#define LS_NAME(type, name) #name " "
EXPORT const char* labelsmooth_layout() { 
    return LS_SLOPE(LS_NAME) LS_ROWS(LS_NAME) LS_CALL(LS_NAME) LS_SIGMOIDS(LS_NAME);
}

// The place of an index that is not in 0..num_classes-1; else -1.
static int64_t out_of_range(const Call& call) {
    const uint64_t classes = uint64_t(call.num_classes);  // beside it a negative index is large
    for (int64_t j = 0; j < call.picks; ++j) {
        const int64_t* index = call.index + j * call.index_step;
        bool any = false;  // a loop without a way out can be made one of vectors
        if (call.index_stride == 1)
            for (int64_t r = 0; r < call.rows; ++r) any |= uint64_t(index[r]) >= classes;
        else
            for (int64_t r = 0; r < call.rows; ++r) any |= uint64_t(index[r * call.index_stride]) >= classes;
        for (int64_t r = 0; any && r < call.rows; ++r)
            if (uint64_t(index[r * call.index_stride]) >= classes) return r * call.picks + j;
    }
    return -1;
}

// Both do nothing and return the place of an index that is not in 0..num_classes-1, or -2 where a prior_row is
// not in 0..P-1; else -1.
static int64_t run(const Call& call, bool back) {
    const int64_t place = out_of_range(call);
    if (place >= 0) return place;
    for (int64_t r = 0; call.prior_row && r < call.rows; ++r) {
        const int64_t p = call.prior_row[r * call.prior_row_stride];
        if (p < 0 || p >= call.prior_rows) return -2;
    }
    const int64_t isa = wanted_isa(call.isa);
#if defined(LS_X86)
    if (isa == 3) return (back ? avx512bf16::backward : avx512bf16::forward)(call), -1;
    if (isa == 2) return (back ? avx512::backward : avx512::forward)(call), -1;
    if (isa == 1) return (back ? avx2::backward : avx2::forward)(call), -1;
#endif
    (void)isa;
    (back ? baseline::backward : baseline::forward)(call);
    return -1;
}

EXPORT int64_t labelsmooth_forward(const Call* call) { return run(*call, false); }

EXPORT int64_t labelsmooth_backward(const Call* call) { return run(*call, true); }

EXPORT void labelsmooth_sigmoids(const Sigmoids* call) {
    const int64_t isa = wanted_isa(call->isa);
#if defined(LS_X86)
    if (isa == 3) return avx512bf16::sigmoids(*call);
    if (isa == 2) return avx512::sigmoids(*call);
    if (isa == 1) return avx2::sigmoids(*call);
#endif
    (void)isa;
    baseline::sigmoids(*call);
}

EXPORT void labelsmooth_advise(char* from, int64_t bytes) { advise_huge_pages(from, from + bytes); }
