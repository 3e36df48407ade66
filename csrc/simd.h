// Vectors as long as the registers: loads and stores of every storage type, exp, log(1+y), sums and transposes.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace LS_ISA {
namespace {

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

}  // namespace
}  // namespace LS_ISA
