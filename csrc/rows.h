// One row of logits at a time: its statistics block by block, and its gradient.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <type_traits>
#include <vector>

#include "row_stats.h"
#include "share.h"
#include "simd.h"

namespace LS_ISA {
namespace {

constexpr int64_t BLOCK = 4096;        // columns; 16 KiB of float

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

}  // namespace
}  // namespace LS_ISA
