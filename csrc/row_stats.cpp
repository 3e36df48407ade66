// One pass over rows of logits: their statistics, and the gradient of any combination of these.
//
// Compiled once for each instruction set, LS_ISA being its namespace; entry.cpp chooses among them. Vectors are
// those of GCC and Clang, as long as the registers.
//
// Memory decides the time. The forward reads a row block by block: a block stays in the first-level cache
// between the pass for its maximum and the pass for its sums. Blocks merge in double, left to right, whoever
// reckoned them, so that a row's statistics do not depend on the batch or on the threads. The backward reads
// the logits once and writes the gradient once.
//
// Where columns are few, what is done once a row decides it: `Lanes` takes many rows at a time.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "row_stats.h"

namespace LS_ISA {
namespace {

constexpr int64_t BLOCK = 4096;        // columns; 16 KiB of float
constexpr int64_t THREAD_WORTH = 1 << 15;  // elements for which waking a thread pays

#if defined(__AVX512F__)
#define LS_BYTES 64
#elif defined(__AVX__)
#define LS_BYTES 32
#else
#define LS_BYTES 16
#endif
typedef float floats __attribute__((vector_size(LS_BYTES)));
typedef double doubles __attribute__((vector_size(LS_BYTES)));
typedef int32_t ints __attribute__((vector_size(LS_BYTES)));
typedef int64_t longs __attribute__((vector_size(LS_BYTES)));
typedef uint32_t words __attribute__((vector_size(LS_BYTES)));
typedef uint16_t halves __attribute__((vector_size(LS_BYTES / 2)));
typedef int16_t shorts __attribute__((vector_size(LS_BYTES)));

template <class To, class From>
To bits(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}

struct bf16 { uint16_t bits; };
struct f16 { uint16_t bits; };

// Storage type -> the type reckoned in.
template <class T> struct Wide { using Scalar = float; using Vector = floats; using Mask = ints; };
template <> struct Wide<double> { using Scalar = double; using Vector = doubles; using Mask = longs; };
template <class T> using Scalar = typename Wide<T>::Scalar;
template <class T> using Vector = typename Wide<T>::Vector;
template <class T> constexpr int64_t LANES = LS_BYTES / sizeof(Scalar<T>);

words widen(halves from) {
#if defined(__AVX512F__)  // the compiler would do it in two halves
    return bits<words>(_mm512_cvtepu16_epi32(bits<__m256i>(from)));
#elif defined(__AVX2__)
    return bits<words>(_mm256_cvtepu16_epi32(bits<__m128i>(from)));
#else
    return __builtin_convertvector(from, words);
#endif
}

floats widen(halves from, bf16) { return bits<floats>(widen(from) << 16); }

halves narrow(floats from, bf16) {
#if defined(__AVX512BF16__)
    return bits<halves>(_mm512_cvtneps_pbh(bits<__m512>(from)));
#else
    words w = bits<words>(from);
    words rounded = (w + 0x7fff + ((w >> 16) & 1)) >> 16;  // to nearest, ties to even
    rounded = from != from ? (w >> 16) | 0x40 : rounded;
    return __builtin_convertvector(rounded, halves);
#endif
}

floats widen(halves from, f16) {
#if defined(__AVX512F__)
    return bits<floats>(_mm512_cvtph_ps(bits<__m256i>(from)));
#elif defined(__F16C__)
    return bits<floats>(_mm256_cvtph_ps(bits<__m128i>(from)));
#else
    words w = widen(from), size = w & 0x7fff;
    floats value = bits<floats>(size << 13) * 0x1p112f;  // moves the exponent, subnormals too
    words special = bits<words>(value) | 0x7f800000;      // infinities and NaN
    words result = size >= 0x7c00 ? special : bits<words>(value);
    return bits<floats>(result | (w & 0x8000) << 16);
#endif
}

halves narrow(floats from, f16) {
#if defined(__AVX512F__)
    return bits<halves>(_mm512_cvtps_ph(bits<__m512>(from), _MM_FROUND_TO_NEAREST_INT));
#elif defined(__F16C__)
    return bits<halves>(_mm256_cvtps_ph(bits<__m256>(from), _MM_FROUND_TO_NEAREST_INT));
#else
    words w = bits<words>(from), size = w & 0x7fffffff;
    words normal = (size + 0xfff + ((size >> 13) & 1) - (112u << 23)) >> 13;
    // below 2^-14 halves are multiples of 2^-24, the last place of floats in [1/2, 1)
    words subnormal = bits<words>(bits<floats>(size) + 0.5f) - 0x3f000000;
    words result = size < (113u << 23) ? subnormal : normal;
    result = size >= 0x477ff000 ? words{} + 0x7c00 : result;  // rounds to 2^16 or more
    result = size > 0x7f800000 ? words{} + 0x7e00 : result;
    return __builtin_convertvector(result | (w >> 16 & 0x8000), halves);
#endif
}

template <class T> Vector<T> load(const T* from) {
    if constexpr (sizeof(T) == 2) {
        halves h;
        std::memcpy(&h, from, sizeof h);
        return widen(h, T{});
    } else {
        Vector<T> v;
        std::memcpy(&v, from, sizeof v);
        return v;
    }
}

template <class T> void store(T* to, Vector<T> v) {
    if constexpr (sizeof(T) == 2) {
        halves h = narrow(v, T{});
        std::memcpy(to, &h, sizeof h);
    } else {
        std::memcpy(to, &v, sizeof v);
    }
}

// The last lanes of a row shorter than a vector; the others hold 0.
template <class T> Vector<T> load_some(const T* from, int64_t count) {
#if defined(__AVX512F__)
    if constexpr (std::is_same_v<T, float>)
        return bits<floats>(_mm512_maskz_loadu_ps(__mmask16((1 << count) - 1), from));
    if constexpr (sizeof(T) == 2)
        return widen(bits<halves>(_mm256_maskz_loadu_epi16(__mmask16((1 << count) - 1), from)), T{});
#endif
    T room[LANES<T>] = {};
    std::memcpy(room, from, count * sizeof(T));
    return load(room);
}

template <class T> void store_some(T* to, Vector<T> v, int64_t count) {
#if defined(__AVX512F__)
    if constexpr (std::is_same_v<T, float>)
        return _mm512_mask_storeu_ps(to, __mmask16((1 << count) - 1), bits<__m512>(v));
    if constexpr (sizeof(T) == 2)
        return _mm256_mask_storeu_epi16(to, __mmask16((1 << count) - 1), bits<__m256i>(narrow(v, T{})));
#endif
    T room[LANES<T>];
    store(room, v);
    std::memcpy(to, room, count * sizeof(T));
}

template <class T> Scalar<T> load_one(const T* from) {
    if constexpr (sizeof(T) == 2)
        return widen(halves{from->bits}, T{})[0];
    else
        return *from;
}

template <class T> void store_one(T* to, Scalar<T> value) {
    if constexpr (sizeof(T) == 2)
        to->bits = narrow(floats{value}, T{})[0];
    else
        *to = value;
}

// exp of x ≤ 0: 2^n·e^r with |r| ≤ log(2)/2. In float e^r is the polynomial of degree 6 that starts with 1 + r
// and has the least relative error (3e-9, Remez's exchange), in double its Taylor sum. Results that are not
// normal numbers are 0; NaN stays NaN.
floats exponential(floats x) {
    const float magic = 0x1.8p23f + 127;  // adding it rounds to integers and leaves n + 127 in the last bits
    floats t = x * 1.44269504f + magic, n = t - magic;
    floats r = x - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    floats p = r * 0.0013814599f + 0.008368717f;
    p = p * r + 0.04166839f;
    p = p * r + 0.16666521f;
    p = p * r + 0.49999994f;
    p = p * r + 1.f;
    p = p * r + 1.f;
    p *= bits<floats>(bits<ints>(t) << 23);
    return x < -87.33654f ? floats{} : p;
}

doubles exponential(doubles x) {
    const double magic = 0x1.8p52 + 1023;
    doubles t = x * 1.4426950408889634 + magic, n = t - magic;
    doubles r = x - n * 0x1.62e42fefap-1;
    r = r - n * 0x1.cf79abc9e3b39p-40;
    doubles p = r * (1 / 6227020800.) + 1 / 479001600.;
    p = p * r + 1 / 39916800.;
    p = p * r + 1 / 3628800.;
    p = p * r + 1 / 362880.;
    p = p * r + 1 / 40320.;
    p = p * r + 1 / 5040.;
    p = p * r + 1 / 720.;
    p = p * r + 1 / 120.;
    p = p * r + 1 / 24.;
    p = p * r + 1 / 6.;
    p = p * r + 0.5;
    p = p * r + 1.;
    p = p * r + 1.;
    p *= bits<doubles>(bits<longs>(t) << 52);
    return x < -708.39 ? doubles{} : p;
}

// log(1+y) of y ≥ 0: n·log 2 + 2·artanh((f−1)/(f+1)) with 1+y = 2^n·f and f between √½ and √2, by its Taylor
// sum. Where n is 0, y itself is f−1, which 1+y has rounded.
doubles logarithm_beyond_1(doubles y) {
    const longs least = bits<longs>(doubles{} + 0x1.6a09e667f3bcdp-1), x = bits<longs>(1. + y);
    const longs n = (x - least) >> 52;
    const doubles f = bits<doubles>(x - (n << 52)), less = n == 0 ? y : f - 1., s = less / (f + 1.), q = s * s;
    doubles p = q * (1 / 23.) + 1 / 21.;
    p = p * q + 1 / 19.;
    p = p * q + 1 / 17.;
    p = p * q + 1 / 15.;
    p = p * q + 1 / 13.;
    p = p * q + 1 / 11.;
    p = p * q + 1 / 9.;
    p = p * q + 1 / 7.;
    p = p * q + 1 / 5.;
    p = p * q + 1 / 3.;
    const doubles number = bits<doubles>(n + bits<longs>(doubles{} + 0x1.8p52)) - 0x1.8p52;  // n as a double
    return number * 0x1.62e42fefa39efp-1 + 2. * (s + s * q * p);
}

template <class Both> double fold(doubles v, Both both) {
    constexpr int W = LS_BYTES / 8;
    double lane[W];
    std::memcpy(lane, &v, sizeof v);
    for (int half = W / 2; half; half /= 2)
        for (int i = 0; i < half; ++i) lane[i] = both(lane[i], lane[i + half]);
    return lane[0];
}

template <class Both> double fold(floats v, Both both) {
    typedef float half __attribute__((vector_size(LS_BYTES / 2)));
    half low, high;
    std::memcpy(&low, &v, sizeof low);
    std::memcpy(&high, reinterpret_cast<const char*>(&v) + sizeof low, sizeof high);
    doubles a = __builtin_convertvector(low, doubles), b = __builtin_convertvector(high, doubles);
    return fold(both(a, b), both);
}

// Sums of vectors in double: what shorter vectors need, as more of them follow each other.
struct Long {
    doubles low{}, high{};

    void operator+=(doubles v) { low += v; }
    void operator+=(floats v) {
        typedef float half __attribute__((vector_size(LS_BYTES / 2)));
        half parts[2];
        std::memcpy(parts, &v, sizeof v);
        low += __builtin_convertvector(parts[0], doubles);
        high += __builtin_convertvector(parts[1], doubles);
    }
};
template <class V> using Sum = std::conditional_t<LS_BYTES == 64, V, Long>;

template <class V> double total(V v) {
    const auto plus = [](auto a, auto b) { return a + b; };
    if constexpr (std::is_same_v<V, Long>)
        return fold(v.low + v.high, plus);
    else
        return fold(v, plus);
}

template <class V> double largest(V v) {
    return fold(v, [](auto a, auto b) { return a > b ? a : b; });
}

template <class M> bool any(M mask) {
    longs parts = bits<longs>(mask);
    int64_t either = 0;
    for (size_t i = 0; i < LS_BYTES / 8; ++i) either |= parts[i];
    return either != 0;
}

template <class V> V numbers() {  // 0, 1, 2, …
    V v;
    for (size_t i = 0; i < sizeof(V) / sizeof(v[0]); ++i) v[i] = i;
    return v;
}

#if defined(__clang__)
#define LS_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define LS_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, decltype(a < b){__VA_ARGS__})
#endif

// Vectors as the rows of a square: the quarters of APART × APART beside the diagonal change places, then those
// within all four.
template <int APART, class V, size_t... lane> void transpose(V* square, std::index_sequence<lane...> all) {
    constexpr int W = sizeof...(lane);
    if constexpr (APART > 0) {
        for (int i = 0; i < W; ++i) {
            if (i & APART) continue;
            const V a = square[i], b = square[i + APART];
            square[i] = LS_SHUFFLE(a, b, (lane & APART ? W + lane - APART : lane)...);
            square[i + APART] = LS_SHUFFLE(a, b, (lane & APART ? W + lane : lane + APART)...);
        }
        transpose<APART / 2>(square, all);
    }
}

template <class V, size_t W> void transpose(V (&square)[W]) {
    transpose<W / 2>(square, std::make_index_sequence<W>{});
}

constexpr double INF = std::numeric_limits<double>::infinity();

// The statistics of some columns of a row, relative to their maximum (to 0 where all are −inf).
struct Partial {
    double max = -INF;
    double sum = 0;      // Σ exp(z−m)
    double sum_sq = 0;   // Σ exp 2(z−m)
    double sum_of = 0;   // Σ exp(z−m)·(z−m)
    double at_prior = 0;
    double mass = 0;     // Σ π
    int64_t top_block = 0;

    double origin() const { return max == -INF ? 0 : max; }

    void move_to(double new_max) {
        double shift = origin() - (new_max == -INF ? 0 : new_max);
        if (shift == 0) return;
        double factor = max == -INF ? 0 : std::exp(shift);
        if (factor == 0)
            sum_of = 0;
        else
            sum_of = factor * (sum_of + sum * shift);
        sum *= factor;
        sum_sq *= factor * factor;
        at_prior += mass == 0 ? 0 : mass * shift;
    }

    void merge(Partial right) {  // of columns to the right
        if (right.max > max) {
            move_to(right.max);
            max = right.max;
            top_block = right.top_block;
        } else {
            right.move_to(max);
        }
        sum += right.sum;
        sum_sq += right.sum_sq;
        sum_of += right.sum_of;
        at_prior += right.at_prior;
        mass += right.mass;
    }
};

template <class T> T* place(const Rows& rows, int64_t row) {
    if (row < rows.inner) return static_cast<T*>(rows.data) + row * rows.stride;  // divisions cost
    return static_cast<T*>(rows.data) + row / rows.inner * rows.outer_stride + row % rows.inner * rows.stride;
}

// A row whose logits lie side by side.
template <class T> struct Row {
    using S = Scalar<T>;
    const Call& call;
    int64_t row;
    const T* logits;

    bool counted() const { return !call.counted || call.counted[row * call.counted_stride]; }
    const S* prior() const {
        const S* table = static_cast<const S*>(call.prior);
        return call.prior_row ? table + call.prior_row[row * call.prior_row_stride] * call.prior_stride : table;
    }
    int64_t pick(int64_t j) const {  // its column
        return call.index[row * call.index_stride + j * call.index_step] - call.first_class;
    }
    bool inside(int64_t column) const { return column >= 0 && column < call.columns; }
    double slope(const Slope& of, int64_t step = 0) const {
        const S* values = static_cast<const S*>(of.values);
        return values ? of.scale * values[row * of.stride + step] : of.scale;
    }
    double slope_of_pick(int64_t j) const { return slope(call.of_index, j * call.of_index_step); }
};

// The largest of whole vectors; NaN counts or not.
template <class T> double top_of(const T* z, int64_t count) {
    using V = Vector<T>;
    constexpr int64_t W = LANES<T>;
    const V lowest = V{} - std::numeric_limits<Scalar<T>>::infinity();
    V tops[4] = {lowest, lowest, lowest, lowest};
    int64_t i = 0;
    if constexpr (sizeof(T) == 2) {
        // Halves order as integers do once the bits below the sign of the negative ones are flipped: twice as many
        // a vector, and none to widen.
        auto key = [](shorts s) { return s ^ ((s >> 15) & 0x7fff); };
        shorts keys[2];
        if (count >= 4 * W) {
            keys[0] = keys[1] = shorts{} + std::numeric_limits<int16_t>::min();
            for (; i + 4 * W <= count; i += 4 * W)
                for (int u = 0; u < 2; ++u) {
                    shorts s;
                    std::memcpy(&s, z + i + u * 2 * W, sizeof s);
                    s = key(s);
                    keys[u] = s > keys[u] ? s : keys[u];
                }
            keys[0] = key(keys[0] > keys[1] ? keys[0] : keys[1]);
            T both[2 * W];
            std::memcpy(both, keys, sizeof both);
            V low = load(both), high = load(both + W);
            tops[0] = low > high ? low : high;
        }
    } else {
        for (; i + 4 * W <= count; i += 4 * W)
            for (int u = 0; u < 4; ++u) {
                V x = load(z + i + u * W);
                tops[u] = x > tops[u] ? x : tops[u];
            }
    }
    for (; i < count; i += W) {
        V x = load(z + i);
        tops[0] = x > tops[0] ? x : tops[0];
    }
    for (int u = 1; u < 4; ++u) tops[0] = tops[u] > tops[0] ? tops[u] : tops[0];
    return largest(tops[0]);
}

template <class T, int PRIOR, bool FINITE, bool MORE> Partial reckon(const T* z, const Scalar<T>* prior, int64_t count) {
    using S = Scalar<T>;
    using V = Vector<T>;
    constexpr int64_t W = LANES<T>;
    const S lowest = -std::numeric_limits<S>::infinity();
    // What is left after whole vectors is taken as a whole vector too, which reaches back; `live` are the
    // lanes that were not seen before. A row shorter than a vector is copied to one.
    const int64_t whole = count - count % W, left = count - whole;
    V last{};
    decltype(last < last) live{};
    if (left && whole) {
        last = load(z + count - W);
        live = numbers<V>() >= S(W - left);
    } else if (left) {
        last = load_some(z, count);
        live = numbers<V>() < S(left);
    }
    last = live ? last : V{} + lowest;

    const double of_last = largest(last);
    const S top = S(whole ? std::max(of_last, top_of(z, whole)) : of_last);

    V origin = V{} + (top == lowest ? S(0) : top);
    struct Sums {
        V exp{}, sq{}, of{}, at_prior{}, mass{};
    };
    struct {
        Sum<V> exp{}, sq{}, of{}, at_prior{}, mass{};
        void operator+=(const Sums& some) {
            exp += some.exp;
            if (MORE) sq += some.sq, of += some.of;
            if (PRIOR != NONE) at_prior += some.at_prior, mass += some.mass;
        }
    } sums;
    auto add = [&](Sums& to, V x, V pi, auto counts) {
        V d = x - origin, e = exponential(d);
        to.exp += e;
        if (MORE) {
            to.sq += e * e;
            to.of += e == 0 ? V{} : e * d;
        }
        if (PRIOR == UNIFORM) {
            if (FINITE) {
                to.at_prior += x > lowest ? d : V{};
                to.mass += x > lowest ? V{} + S(1) : V{};
            } else {
                to.at_prior += counts(d);
            }
        }
        if (PRIOR == VECTORS) {
            if (FINITE) pi = x > lowest ? pi : V{};
            to.at_prior += pi == 0 ? V{} : pi * d;
            to.mass += pi;
        }
    };
    for (int64_t i = 0; i < whole;) {
        Sums some;  // short sums of short sums: a long one would lose digits
        for (const int64_t end = std::min(whole, i + 16 * W); i < end; i += W) {
            __builtin_prefetch(z + i + BLOCK);  // the next block, while this one keeps the processor busy
            add(some, load(z + i), PRIOR == VECTORS ? load(prior + i) : V{}, [](V d) { return d; });
        }
        sums += some;
    }
    if (left) {
        V pi{};
        if (PRIOR == VECTORS) pi = whole ? load(prior + count - W) : load_some(prior, count);
        Sums some;
        add(some, last, live ? pi : V{}, [live](V d) { return live ? d : V{}; });
        sums += some;
    }

    Partial part;
    part.max = top;
    part.sum = total(sums.exp);
    if (MORE) part.sum_sq = total(sums.sq), part.sum_of = total(sums.of);
    if (PRIOR != NONE) part.at_prior = total(sums.at_prior);
    if (PRIOR == UNIFORM && !FINITE) part.mass = count;
    if (PRIOR == VECTORS || (PRIOR == UNIFORM && FINITE)) part.mass = total(sums.mass);
    return part;
}

template <class T> Partial block(const Row<T>& row, int64_t number) {
    const Call& call = row.call;
    const int64_t from = number * BLOCK, count = std::min(BLOCK, call.columns - from);
    const T* z = row.logits + from;
    const bool more = call.log_sum_sq || call.mean_logit;
    Partial part;
    auto choose = [&](auto kind) {
        constexpr int PRIOR = decltype(kind)::value;
        const Scalar<T>* prior = PRIOR == VECTORS ? row.prior() + from : nullptr;
        if (PRIOR != NONE && call.finite_support)
            part = more ? reckon<T, PRIOR, true, true>(z, prior, count) : reckon<T, PRIOR, true, false>(z, prior, count);
        else
            part = more ? reckon<T, PRIOR, false, true>(z, prior, count) : reckon<T, PRIOR, false, false>(z, prior, count);
    };
    if (call.prior_kind == NONE) choose(std::integral_constant<int, NONE>{});
    if (call.prior_kind == UNIFORM) choose(std::integral_constant<int, UNIFORM>{});
    if (call.prior_kind == VECTORS) choose(std::integral_constant<int, VECTORS>{});
    part.top_block = number;
    return part;
}

template <class T, class Wanted> int64_t first(const T* z, int64_t count, Wanted wanted) {
    constexpr int64_t W = LANES<T>;
    int64_t i = 0;
    auto hits = [&](int64_t u) { return wanted(load(z + i + u * W)); };
    while (i + 4 * W <= count && !any(hits(0) | hits(1) | hits(2) | hits(3))) i += 4 * W;
    while (i + W <= count && !any(hits(0))) i += W;
    while (i < count && !wanted(load_one(z + i))) ++i;
    return i;
}

template <class T> void write(const Row<T>& row, Partial part) {
    using S = Scalar<T>;
    const Call& call = row.call;
    const int64_t r = row.row;
    const T* z = row.counted() ? row.logits : nullptr;
    int64_t argmax = 0;
    if (z && part.sum != part.sum) {  // NaN among the logits, or +inf
        int64_t at = first(z, call.columns, [](auto x) { return x != x; });
        if (at < call.columns) {
            const double nan = std::numeric_limits<double>::quiet_NaN();
            part.max = part.sum = part.sum_sq = part.sum_of = part.at_prior = nan;
            argmax = at;
        }
    }
    if (z && call.argmax && part.max == part.max) {
        const int64_t from = part.top_block * BLOCK;
        const S top = S(part.max);
        argmax = from + first(z + from, call.columns - from, [top](auto x) { return x == top; });
    }
    const double origin = part.origin(), log_sum = std::log(part.sum);
    auto put = [r](void* to, double value) {
        if (to) static_cast<S*>(to)[r] = S(value);
    };
    put(call.max, part.max);
    if (call.argmax) call.argmax[r] = argmax + call.first_class;
    put(call.log_sum, log_sum);
    const auto times = [](double slope, double value) { return slope == 0 ? 0 : slope * value; };
    double combined = times(row.slope(call.of_log_sum), log_sum);
    for (int64_t j = 0; j < call.picks; ++j) {
        const int64_t k = row.pick(j);
        const bool inside = row.inside(k);
        if (call.seen) call.seen[r * call.picks + j] = inside;
        double value = inside ? 0 : -INF;
        if (inside && z) value = load_one(z + k) - origin;
        if (call.at_index) static_cast<S*>(call.at_index)[r * call.picks + j] = S(value);
        combined += times(row.slope_of_pick(j), value);
    }
    const double unit = call.prior_kind == UNIFORM ? 1. / call.num_classes : 1;
    put(call.at_prior, part.at_prior * unit);
    combined += times(row.slope(call.of_prior), part.at_prior * unit);
    put(call.combined, z ? combined : 0);
    put(call.prior_mass, part.mass * unit);
    if (call.log_sum_sq) put(call.log_sum_sq, std::log(part.sum_sq));
    put(call.mean_logit, part.sum == 0 ? 0 : part.sum_of / part.sum);
}

// What a row of zeros gives.
template <class T> Partial uncounted(const Row<T>& row) {
    const Call& call = row.call;
    Partial part;
    part.max = 0;
    part.sum = part.sum_sq = call.columns;
    part.mass = call.columns;
    if (call.prior_kind == VECTORS && call.prior_mass) {
        part.mass = 0;
        for (int64_t k = 0; k < call.columns; ++k) part.mass += row.prior()[k];
    }
    return part;
}

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

// Neighbouring rows whose columns lie apart, as those of pixels do, copied to rows of their own: a cache line
// holds a class of all of them.
template <class T> struct Tile {
    static constexpr int64_t ROWS = 64 / sizeof(T);
    const Call& call;
    const int64_t first, count;
    const std::unique_ptr<T[]> room;

    static int64_t number(const Call& call) { return (call.rows + ROWS - 1) / ROWS; }

    Tile(const Call& call, int64_t unit)
        : call(call),
          first(unit * ROWS),
          count(std::min(ROWS, call.rows - first)),
          room(new T[ROWS * call.columns]) {
        copy(call.logits, [](T& mine, const T& its) { mine = its; });
    }

    T* row(int64_t l) const { return room.get() + l * call.columns; }
    void copy_to(const Rows& rows) const {
        copy(rows, [](const T& mine, T& its) { its = mine; });
    }

    template <class Copy> void copy(const Rows& rows, Copy one) const {
        T* its[ROWS];
        for (int64_t l = 0; l < count; ++l) its[l] = place<T>(rows, first + l);
        T* mine = room.get();
        if (count == ROWS && rows.stride == 1 && its[ROWS - 1] == its[0] + ROWS - 1) {
            for (int64_t k = 0; k < call.columns; ++k, ++mine)
                for (int64_t l = 0; l < ROWS; ++l) one(mine[l * call.columns], its[0][k * rows.step + l]);
            return;
        }
        for (int64_t k = 0; k < call.columns; ++k, ++mine)
            for (int64_t l = 0; l < count; ++l) one(mine[l * call.columns], its[l][k * rows.step]);
    }
};

// Rows a unit: enough that taking one costs nothing, and, where that leaves enough units for all threads, that
// two threads do not wait for each other at the first touch of one huge page. Or blocks of a row, where there
// are few rows.
struct Plan {
    bool whole_rows;
    int64_t blocks, rows, units;

    explicit Plan(const Call& call) {
        blocks = (call.columns + BLOCK - 1) / BLOCK;
        whole_rows = blocks == 1 || call.rows >= 16 * call.threads;
        rows = std::min((1 << 20) / call.columns, call.rows / (8 * call.threads));
        rows = std::max({rows, 4 * BLOCK / call.columns, int64_t(1)});
        units = whole_rows ? (call.rows + rows - 1) / rows : call.rows * blocks;
    }
};

// The gradient of one row: e·(a + b·e + c·d) + prior·π, with d = z−m and e = exp d; then the few classes that
// have a term of their own.
template <class T> struct Gradient {
    using S = Scalar<T>;
    using V = Vector<T>;
    const Row<T> row;
    S origin = 0, a = 0, b = 0, c = 0, of_prior = 0, of_max = 0;

    static double at(const void* values, int64_t place) { return values ? static_cast<const S*>(values)[place] : 0; }

    explicit Gradient(const Row<T>& row) : row(row) {
        const Call& call = row.call;
        const int64_t r = row.row;
        const double max = at(call.max, r);
        const double g_prior = row.slope(call.of_prior);
        of_prior = S(call.prior_kind == UNIFORM ? g_prior / call.num_classes : g_prior);
        double through_max = row.slope(call.of_max);
        if (max != -INF) {
            const double g = row.slope(call.of_log_sum), g_sq = row.slope(call.of_log_sum_sq);
            const double g_mean = row.slope(call.of_mean_logit), mean = at(call.mean_logit, r);
            const double scale = std::exp(-at(call.log_sum, r));
            origin = S(max);
            a = S((g + g_mean * (1 - mean)) * scale);
            c = S(g_mean * scale);
            if (g_sq != 0) b = S(2 * g_sq * std::exp(-at(call.log_sum_sq, r)));
            through_max -= g + 2 * g_sq + g_mean + g_prior * at(call.prior_mass, r * call.prior_mass_stride);
            for (int64_t j = 0; j < call.picks; ++j)
                if (row.inside(row.pick(j))) through_max -= row.slope_of_pick(j);
        }
        of_max = call.shift_free ? S(0) : S(through_max);
    }

    template <int PRIOR, bool FINITE, bool MORE> V of(V x, V pi) const {
        V d = x - origin, e = exponential(d);
        V slope = V{} + a;
        if (MORE) slope += b * e + (e == 0 ? V{} : c * d);
        V result = e * slope;
        if (PRIOR == UNIFORM) pi = V{} + S(1);
        if (PRIOR != NONE && FINITE) pi = x > -std::numeric_limits<S>::infinity() ? pi : V{};
        if (PRIOR != NONE) result += pi * of_prior;
        return result;
    }

    template <int PRIOR, bool FINITE, bool MORE> void fill(T* out, int64_t from, int64_t to) const {
        constexpr int64_t W = LANES<T>;
        const T* z = row.logits;
        const S* prior = PRIOR == VECTORS ? row.prior() : nullptr;
        const Call& call = row.call;

        // f(column, slope) for the classes that have a term of their own
        auto own_terms = [&](auto f) {
            if (call.of_index.scale != 0)
                for (int64_t j = 0; j < call.picks; ++j) f(row.pick(j), S(row.slope_of_pick(j)));
            if (!call.shift_free) f(call.argmax[row.row] - call.first_class, of_max);
        };
        if (to - from < W) {
            V pi = PRIOR == VECTORS ? load_some(prior + from, to - from) : V{};
            V result = of<PRIOR, FINITE, MORE>(load_some(z + from, to - from), pi);
            own_terms([&](int64_t k, S value) {
                if (k >= from && k < to) result += numbers<V>() == S(k - from) ? V{} + value : V{};
            });
            return store_some(out + from, result, to - from);
        }

        // read before anything is written, as `out` may be the logits
        struct Own { int64_t column; S value; };
        Own room[8];
        std::vector<Own> heap;
        int64_t owns = 0;
        const int64_t most = call.picks + 1;
        Own* own = room;
        if (most > 8) {
            heap.resize(most);
            own = heap.data();
        }
        own_terms([&](int64_t k, S value) {
            if (k >= from && k < to) own[owns++] = {k, value};
        });
        std::sort(own, own + owns, [](const Own& a, const Own& b) { return a.column < b.column; });
        int64_t distinct = 0;
        for (int64_t o = 0; o < owns; ++o) {
            const int64_t k = own[o].column;
            if (distinct && own[distinct - 1].column == k) {
                own[distinct - 1].value += own[o].value;
                continue;
            }
            V base = of<PRIOR, FINITE, MORE>(V{} + load_one(z + k), V{} + (PRIOR == VECTORS ? prior[k] : S(0)));
            own[distinct++] = {k, base[0] + own[o].value};
        }

        // a copy, which no store can change: its numbers stay in registers
        auto some = [z, prior, self = *this](int64_t i) {
            return self.template of<PRIOR, FINITE, MORE>(load(z + i), PRIOR == VECTORS ? load(prior + i) : V{});
        };
        const V last = some(to - W);  // reaches back, and is read before anything is written
        for (int64_t i = from; i + W <= to; i += W) store(out + i, some(i));
        store(out + to - W, last);
        for (int64_t o = 0; o < distinct; ++o) store_one(out + own[o].column, own[o].value);
    }
};

template <class T> void fill(const Row<T>& row, T* out, int64_t from, int64_t to) {
    const Call& call = row.call;
    if (!row.counted()) {
        std::memset(out + from, 0, (to - from) * sizeof(T));
        return;
    }
    const Gradient<T> gradient(row);
    const bool more = call.of_log_sum_sq.scale != 0 || call.of_mean_logit.scale != 0;
    auto choose = [&](auto kind) {
        constexpr int PRIOR = decltype(kind)::value;
        if (PRIOR != NONE && call.finite_support)
            more ? gradient.template fill<PRIOR, true, true>(out, from, to) : gradient.template fill<PRIOR, true, false>(out, from, to);
        else
            more ? gradient.template fill<PRIOR, false, true>(out, from, to) : gradient.template fill<PRIOR, false, false>(out, from, to);
    };
    const int64_t kind = call.of_prior.scale != 0 ? call.prior_kind : int64_t(NONE);
    if (kind == NONE) choose(std::integral_constant<int, NONE>{});
    if (kind == UNIFORM) choose(std::integral_constant<int, UNIFORM>{});
    if (kind == VECTORS) choose(std::integral_constant<int, VECTORS>{});
}

// Rows of few columns: what is done once a row, folding the lanes above all, costs more than the columns. Here
// each row has a lane of its own instead, and as many rows go at a time as fill a cache line where they lie side
// by side.

// Columns side by side, up to where whole rows are as fast in memory that is not cached; and apart, where those
// would be copied first.
constexpr int64_t FEW = 64, FEW_APART = 256;

template <class T> struct Lanes {
    using S = Scalar<T>;
    using V = Vector<T>;
    static constexpr int64_t W = LANES<T>, ROWS = 64 / sizeof(T);
    const Call& call;
    const int64_t first, count;  // lanes past the last row repeat the first
    bool counted[ROWS];
    alignas(64) S values[FEW_APART][ROWS];

    Lanes(const Call& call, int64_t first) : call(call), first(first), count(std::min(ROWS, call.rows - first)) {
        read(Places(*this, call.logits));
        for (int64_t l = 0; l < ROWS; ++l) counted[l] = true;
        if (!call.counted) return;
        S keep[ROWS];
        bool all = true;
        for (int64_t l = 0; l < ROWS; ++l) {
            keep[l] = counted[l] = Row<T>{call, row(l), nullptr}.counted();
            all = all && counted[l];
        }
        if (all) return;
        for (int64_t l = 0; l < ROWS; l += W) {
            const V kept = load(keep + l);
            for (int64_t k = 0; k < call.columns; ++k) store(values[k] + l, kept != 0 ? at(k, l) : V{});
        }
    }

    int64_t row(int64_t l) const { return first + (l < count ? l : 0); }
    V at(int64_t k, int64_t l) const { return load(values[k] + l); }

    // A number for each lane.
    struct Numbers {
        double of[ROWS];

        template <class F> explicit Numbers(F f) {
            for (int64_t l = 0; l < ROWS; ++l) of[l] = f(l);
        }
        template <class F> void become(F f) {
            for (int64_t l = 0; l < ROWS; l += LANES<double>) store(of + l, f(load(of + l)));
        }
        double operator[](int64_t l) const { return of[l]; }
    };

    Numbers slope(const Slope& of, int64_t step = 0) const {  // 0 in rows that do not count
        if (of.values && of.stride)
            return Numbers([&](int64_t l) { return counted[l] ? Row<T>{call, row(l), nullptr}.slope(of, step) : 0; });
        const double same = Row<T>{call, 0, nullptr}.slope(of, step);
        return Numbers([&](int64_t l) { return counted[l] ? same : 0; });
    }

    // f(lane, column) for pick j of each row.
    template <class F> void picks(int64_t j, F f) const {
        for (int64_t l = 0; l < count; ++l) f(l, Row<T>{call, first + l, nullptr}.pick(j));
    }

    // Where the rows lie.
    struct Places {
        T* row[ROWS];
        int64_t step;
        bool side_by_side;

        Places(const Lanes& lanes, const Rows& rows) : step(rows.step) {
            const int64_t first = lanes.first, within = first < rows.inner ? first : first % rows.inner;
            const bool even = lanes.count == ROWS && within + ROWS <= rows.inner;
            row[0] = place<T>(rows, first);
            for (int64_t l = 1; l < ROWS; ++l)
                row[l] = even ? row[0] + l * rows.stride : place<T>(rows, lanes.row(l));
            side_by_side = even && rows.stride == 1;
        }
    };

    // f(columns, from) for squares of W columns, the last of which reaches back; or for the columns there are.
    template <class F> void squares(F f) const {
        const int64_t columns = call.columns;
        if (columns < W) return f(columns, 0);
        for (int64_t k = 0; k < columns; k += W) f(W, std::min(k, columns - W));
    }

    void read(const Places& places) {
        const int64_t columns = call.columns;
        if (places.side_by_side) {
            for (int64_t k = 0; k < columns; ++k)
                for (int64_t l = 0; l < ROWS; l += W) store(values[k] + l, load(places.row[0] + k * places.step + l));
        } else if (places.step == 1) {
            squares([&](int64_t wide, int64_t from) {
                for (int64_t l = 0; l < ROWS; l += W) {
                    V square[W];
                    for (int64_t i = 0; i < W; ++i) {
                        const T* z = places.row[l + i] + from;
                        square[i] = wide == W ? load(z) : load_some(z, wide);
                    }
                    transpose(square);
                    for (int64_t i = 0; i < wide; ++i) store(values[from + i] + l, square[i]);
                }
            });
        } else {
            for (int64_t k = 0; k < columns; ++k)
                for (int64_t l = 0; l < ROWS; ++l) values[k][l] = load_one(places.row[l] + k * places.step);
        }
    }

    void write(const Places& places) const {
        const int64_t columns = call.columns;
        if (places.side_by_side) {
            for (int64_t k = 0; k < columns; ++k)
                for (int64_t l = 0; l < ROWS; l += W) store(places.row[0] + k * places.step + l, at(k, l));
        } else if (places.step == 1) {
            squares([&](int64_t wide, int64_t from) {
                for (int64_t l = 0; l < count; l += W) {
                    V square[W] = {};
                    for (int64_t i = 0; i < wide; ++i) square[i] = at(from + i, l);
                    transpose(square);
                    for (int64_t i = 0; i < std::min(W, count - l); ++i) {
                        T* out = places.row[l + i] + from;
                        wide == W ? store(out, square[i]) : store_some(out, square[i], wide);
                    }
                }
            });
        } else {
            for (int64_t k = 0; k < columns; ++k)
                for (int64_t l = 0; l < count; ++l) store_one(places.row[l] + k * places.step, values[k][l]);
        }
    }

    // Row l as the functions for single rows take it, which know what infinities and NaN mean.
    Row<T> alone(int64_t l, T* room) const {
        const T* z = place<T>(call.logits, first + l);
        for (int64_t k = 0; k < call.columns; ++k) room[k] = z[k * call.logits.step];
        return {call, first + l, room};
    }

    template <int PRIOR> void forward() const {
        const int64_t columns = call.columns;
        const S* prior = static_cast<const S*>(call.prior);
        S tops[ROWS], ties[ROWS], rests[ROWS], at_priors[ROWS], argmaxes[ROWS];
        for (int64_t l = 0; l < ROWS; l += W) {
            V top = V{} - std::numeric_limits<S>::infinity();
            for (int64_t k = 0; k < columns; ++k) top = at(k, l) > top ? at(k, l) : top;
            // those at the top apart, so that a small rest keeps its digits
            V tie{}, rest{}, at_prior{}, argmax{};
            for (int64_t k = 0; k < columns;) {
                V some{}, some_at_prior{};  // short sums of short sums, as for long rows
                for (const int64_t end = std::min(columns, k + 16); k < end; ++k) {
                    const V x = at(k, l), d = x - top, e = exponential(d);
                    tie += x == top ? V{} + S(1) : V{};
                    some += x == top ? V{} : e;
                    if (PRIOR == UNIFORM) some_at_prior += d;
                    if (PRIOR == VECTORS && prior[k] != 0) some_at_prior += d * prior[k];
                }
                rest += some;
                at_prior += some_at_prior;
            }
            if (call.argmax)
                for (int64_t k = columns; k--;) argmax = at(k, l) == top ? V{} + S(k) : argmax;
            store(tops + l, top);
            store(ties + l, tie);
            store(rests + l, rest);
            store(at_priors + l, at_prior);
            store(argmaxes + l, argmax);
        }
        Numbers log_sum([&](int64_t l) { return double(ties[l]) - 1 + rests[l]; });
        log_sum.become(logarithm_beyond_1);
        const double unit = call.prior_kind == UNIFORM ? 1. / call.num_classes : 1;
        const Numbers at_prior([&](int64_t l) { return at_priors[l] * unit; });
        const auto times = [](double slope, double value) { return slope == 0 ? 0 : slope * value; };

        const Numbers of_log_sum = slope(call.of_log_sum), of_prior = slope(call.of_prior);
        Numbers combined([&](int64_t l) { return of_log_sum[l] * log_sum[l] + times(of_prior[l], at_prior[l]); });
        for (int64_t j = 0; j < call.picks; ++j) {
            const Numbers of_pick = slope(call.of_index, j * call.of_index_step);
            picks(j, [&](int64_t l, int64_t k) {
                const bool inside = k >= 0 && k < columns;
                const double value = inside ? double(values[k][l]) - tops[l] : -INF;
                const int64_t to = (first + l) * call.picks + j;
                if (call.seen) call.seen[to] = inside;
                if (call.at_index) static_cast<S*>(call.at_index)[to] = S(value);
                combined.of[l] += times(of_pick[l], value);
            });
        }
        auto put = [this](void* to, const auto& numbers) {
            if (!to) return;
            for (int64_t l = 0; l < count; ++l) static_cast<S*>(to)[first + l] = S(numbers[l]);
        };
        put(call.max, tops);
        put(call.log_sum, log_sum);
        put(call.at_prior, at_prior);
        put(call.combined, combined);
        if (call.argmax)
            for (int64_t l = 0; l < count; ++l) call.argmax[first + l] = int64_t(argmaxes[l]) + call.first_class;

        for (int64_t l = 0; l < count; ++l) {
            if (std::isfinite(tops[l]) && std::isfinite(rests[l])) continue;
            T room[FEW_APART];
            const Row<T> row = alone(l, room);
            LS_ISA::write(row, block(row, 0));
        }
    }

    template <int PRIOR> void backward() {
        const int64_t columns = call.columns;
        const S *prior = static_cast<const S*>(call.prior), *max = static_cast<const S*>(call.max);
        const S* log_sum = static_cast<const S*>(call.log_sum);
        const double unit = call.prior_kind == UNIFORM ? 1. / call.num_classes : 1;
        const Numbers of_log_sum = slope(call.of_log_sum), of_prior = slope(call.of_prior);
        Numbers scale([&](int64_t l) { return -double(log_sum[row(l)]); });
        scale.become([](doubles x) { return exponential(x); });
        S origins[ROWS], slopes[ROWS], prior_slopes[ROWS];
        for (int64_t l = 0; l < ROWS; ++l) {
            origins[l] = max[row(l)];
            slopes[l] = S(of_log_sum[l] * scale[l]);
            prior_slopes[l] = S(of_prior[l] * unit);
        }
        for (int64_t l = 0; l < ROWS; l += W) {
            const V origin = load(origins + l), a = load(slopes + l), b = load(prior_slopes + l);
            for (int64_t k = 0; k < columns; ++k) {
                V result = exponential(at(k, l) - origin) * a;
                if (PRIOR == UNIFORM) result += b;
                if (PRIOR == VECTORS) result += b * prior[k];
                store(values[k] + l, result);
            }
        }
        for (int64_t j = 0; j < call.picks && call.of_index.scale != 0; ++j) {
            const Numbers of_pick = slope(call.of_index, j * call.of_index_step);
            picks(j, [&](int64_t l, int64_t k) {
                if (k >= 0 && k < columns) values[k][l] += S(of_pick[l]);
            });
        }
        for (int64_t l = 0; l < count; ++l) {
            if (!counted[l] || (std::isfinite(max[first + l]) && std::isfinite(log_sum[first + l]))) continue;
            T room[FEW_APART];
            fill(alone(l, room), room, 0, columns);
            for (int64_t k = 0; k < columns; ++k) values[k][l] = load_one(room + k);
        }
        write(Places(*this, call.out));
    }
};

// Whether rows in lanes serve this call; whatever its rows and threads are, so that no bit depends on these.
bool in_lanes(const Call& call, bool of_prior, bool more) {
    const int64_t most = call.logits.step == 1 ? FEW : FEW_APART;
    return call.columns <= most && !more && !(of_prior && (call.finite_support || call.prior_row));
}

template <class T, class Work> void share_lanes(const Call& call, int64_t prior_kind, Work work) {
    constexpr int64_t R = Lanes<T>::ROWS;
    const int64_t rows = (Plan(call).rows + R - 1) / R * R;
    share((call.rows + rows - 1) / rows, call.rows * call.columns, call.threads, [&](int64_t unit) {
        const int64_t end = std::min(call.rows, (unit + 1) * rows);
        for (int64_t r = unit * rows; r < end; r += R) {
            Lanes<T> lanes(call, r);
            if (prior_kind == NONE) work(lanes, std::integral_constant<int, NONE>{});
            if (prior_kind == UNIFORM) work(lanes, std::integral_constant<int, UNIFORM>{});
            if (prior_kind == VECTORS) work(lanes, std::integral_constant<int, VECTORS>{});
        }
    });
}

template <class T> void forward_rows(const Call& call) {
    if (in_lanes(call, call.prior_kind != NONE, call.log_sum_sq || call.mean_logit || call.prior_mass)) {
        share_lanes<T>(call, call.prior_kind, [](const Lanes<T>& lanes, auto prior_kind) {
            lanes.template forward<decltype(prior_kind)::value>();
        });
        return;
    }
    const Plan plan(call);
    const int64_t elements = call.rows * call.columns;
    auto whole = [&](const Row<T>& row) {
        Partial all = row.counted() ? block(row, 0) : uncounted(row);
        for (int64_t b = 1; b < plan.blocks && row.counted(); ++b) all.merge(block(row, b));
        write(row, all);
    };
    if (call.logits.step != 1) {
        share(Tile<T>::number(call), elements, call.threads, [&](int64_t unit) {
            Tile<T> tile(call, unit);
            for (int64_t l = 0; l < tile.count; ++l) whole({call, tile.first + l, tile.row(l)});
        });
        return;
    }
    if (plan.whole_rows) {
        share(plan.units, elements, call.threads, [&](int64_t unit) {
            const int64_t end = std::min(call.rows, (unit + 1) * plan.rows);
            for (int64_t r = unit * plan.rows; r < end; ++r) whole({call, r, place<T>(call.logits, r)});
        });
        return;
    }
    std::vector<Partial> parts(plan.units);
    share(plan.units, elements, call.threads, [&](int64_t unit) {
        const int64_t r = unit / plan.blocks;
        Row<T> row{call, r, place<T>(call.logits, r)};
        if (row.counted()) parts[unit] = block(row, unit % plan.blocks);
    });
    for (int64_t r = 0; r < call.rows; ++r) {
        Row<T> row{call, r, place<T>(call.logits, r)};
        Partial all = row.counted() ? parts[r * plan.blocks] : uncounted(row);
        for (int64_t b = 1; b < plan.blocks && row.counted(); ++b) all.merge(parts[r * plan.blocks + b]);
        write(row, all);
    }
}

template <class T> void forward_of(const Call& call) {
    forward_rows<T>(call);
    if (!call.total) return;
    const auto* combined = static_cast<const Scalar<T>*>(call.combined);
    double totals[4] = {};  // each addition waits for the one before it
    int64_t r = 0;
    for (; r + 4 <= call.rows; r += 4)
        for (int64_t i = 0; i < 4; ++i) totals[i] += combined[r + i];
    for (; r < call.rows; ++r) totals[0] += combined[r];
    *static_cast<Scalar<T>*>(call.total) = Scalar<T>(totals[0] + totals[1] + (totals[2] + totals[3]));
}

template <class T> void backward_rows(const Call& call) {
    const bool of_prior = call.of_prior.scale != 0;
    const bool more = call.of_log_sum_sq.scale != 0 || call.of_mean_logit.scale != 0 || !call.shift_free;
    if (in_lanes(call, of_prior, more)) {
        share_lanes<T>(call, of_prior ? call.prior_kind : int64_t(NONE), [](Lanes<T>& lanes, auto prior_kind) {
            lanes.template backward<decltype(prior_kind)::value>();
        });
        return;
    }
    const Plan plan(call);
    const int64_t elements = call.rows * call.columns;
    if (call.logits.step != 1 || call.out.step != 1) {
        share(Tile<T>::number(call), elements, call.threads, [&](int64_t unit) {
            Tile<T> tile(call, unit);
            for (int64_t l = 0; l < tile.count; ++l)
                fill({call, tile.first + l, tile.row(l)}, tile.row(l), 0, call.columns);
            tile.copy_to(call.out);
        });
        return;
    }
    share(plan.units, elements, call.threads, [&](int64_t turn) {
        const int64_t unit = plan.units - 1 - turn;  // the forward's last rows may still be in a cache
        if (!plan.whole_rows) {
            const int64_t r = unit / plan.blocks, from = unit % plan.blocks * BLOCK;
            const int64_t to = std::min(call.columns, from + BLOCK);
            fill({call, r, place<T>(call.logits, r)}, place<T>(call.out, r), from, to);
            return;
        }
        const int64_t end = std::min(call.rows, (unit + 1) * plan.rows);
        for (int64_t r = unit * plan.rows; r < end; ++r)
            fill({call, r, place<T>(call.logits, r)}, place<T>(call.out, r), 0, call.columns);
    });
}

}  // namespace

void forward(const Call& call) {
    if (call.dtype == F32) forward_of<float>(call);
    if (call.dtype == BF16) forward_of<bf16>(call);
    if (call.dtype == F16) forward_of<f16>(call);
    if (call.dtype == F64) forward_of<double>(call);
}

void backward(const Call& call) {
    if (call.dtype == F32) backward_rows<float>(call);
    if (call.dtype == BF16) backward_rows<bf16>(call);
    if (call.dtype == F16) backward_rows<f16>(call);
    if (call.dtype == F64) backward_rows<double>(call);
}

}  // namespace LS_ISA
