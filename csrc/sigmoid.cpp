// The cross-entropy of sigmoids, -p*y*log σ(z) - (1-y)*log σ(-z) of each logit, and its gradient.
//
// Compiled once for each instruction set, as row_stats.cpp is. One exponential a logit each way, of -|z|, so that
// nothing overflows; 0 times an infinity is 0.

#include <vector>

#include "share.h"
#include "sigmoid.h"
#include "simd.h"

namespace LS_ISA {
namespace {

constexpr int64_t UNIT = 1 << 12;  // logits that a thread takes at a time

// log(1+y) of y in [0, 1], as 2*artanh(y/(2+y)).
floats logarithm_up_to_2(floats y) {
    const floats s = y / (y + 2.f), q = s * s;
    floats p = q * (1 / 13.f) + 1 / 11.f;
    p = p * q + 1 / 9.f;
    p = p * q + 1 / 7.f;
    p = p * q + 1 / 5.f;
    p = p * q + 1 / 3.f;
    return 2.f * (s + s * q * p);
}

doubles logarithm_up_to_2(doubles y) { return logarithm_beyond_1(y); }

// Some logits with their labels: the vectors that loss and gradient are made of.
template <class T> struct Batch {
    using V = Vector<T>;
    V logits, holds, fails, size, small;  // p*y, 1-y, |z|, exp(-|z|)

    Batch(const Sigmoids& call, int64_t from, int64_t count) {
        logits = part(static_cast<const T*>(call.logits) + from, count);
        const V labels = part(static_cast<const Scalar<T>*>(call.labels) + from, count);
        holds = call.pos_weight ? labels * part(static_cast<const Scalar<T>*>(call.pos_weight) + from, count) : labels;
        fails = Scalar<T>(1) - labels;
        size = logits < 0 ? -logits : logits;
        small = exponential(-size);
    }

    template <class From> static V part(const From* from, int64_t count) {
        return count == LANES<T> ? load(from) : load_some(from, count);
    }

    V loss() const {
        const V beyond = logits > 0 ? fails : holds;
        return (beyond == 0 ? V{} : beyond * size) + (holds + fails) * logarithm_up_to_2(small);
    }

    V slope() const {
        const V larger = Scalar<T>(1) / (Scalar<T>(1) + small), smaller = small * larger;
        return logits > 0 ? fails * larger - holds * smaller : fails * smaller - holds * larger;
    }
};

template <class T> void put(T* to, Vector<T> values, int64_t count) {
    count == LANES<T> ? store(to, values) : store_some(to, values, count);
}

// Hands the logits of a unit to `work`, as many at a time as a vector holds.
template <class T, class Work> void each_batch(const Sigmoids& call, int64_t unit, Work work) {
    const int64_t end = std::min(call.count, (unit + 1) * UNIT);
    for (int64_t from = unit * UNIT; from < end; from += LANES<T>) {
        const int64_t count = std::min(LANES<T>, end - from);
        work(Batch<T>(call, from, count), from, count);
    }
}

template <class T> void losses(const Sigmoids& call, int64_t units) {
    auto* out = static_cast<Scalar<T>*>(call.losses);
    std::vector<double> sums(units);
    share(units, call.count, call.threads, [&](int64_t unit) {
        Long sum;
        double last = 0;  // of the batch that fills no vector
        each_batch<T>(call, unit, [&](const Batch<T>& batch, int64_t from, int64_t count) {
            const Vector<T> values = batch.loss();
            if (out) put(out + from, values, count);
            if (count == LANES<T>)
                sum += values;
            else
                for (int64_t i = 0; i < count; ++i) last += values[i];
        });
        sums[unit] = total(sum) + last;
    });
    if (!call.total) return;
    double all = 0;
    for (double sum : sums) all += sum;
    *static_cast<Scalar<T>*>(call.total) = Scalar<T>(all);
}

template <class T> void gradient(const Sigmoids& call, int64_t units) {
    auto* out = static_cast<T*>(call.gradient);
    const auto* upstream = static_cast<const Scalar<T>*>(call.upstream);
    share(units, call.count, call.threads, [&](int64_t unit) {
        each_batch<T>(call, unit, [&](const Batch<T>& batch, int64_t from, int64_t count) {
            const Vector<T> slope = batch.slope();
            put(out + from,
                call.upstream_stride ? slope * Batch<T>::part(upstream + from, count) : slope * *upstream, count);
        });
    });
}

template <class T> void of(const Sigmoids& call) {
    const int64_t units = (call.count + UNIT - 1) / UNIT;
    call.gradient ? gradient<T>(call, units) : losses<T>(call, units);
}

}  // namespace

void sigmoids(const Sigmoids& call) {
    if (call.dtype == F32) of<float>(call);
    if (call.dtype == BF16) of<bf16>(call);
    if (call.dtype == F16) of<f16>(call);
    if (call.dtype == F64) of<double>(call);
}

}  // namespace LS_ISA
