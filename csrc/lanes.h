// Many rows of few columns at a time, a row in each lane of a vector.
#pragma once

#include "rows.h"

namespace LS_ISA {
namespace {

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

}  // namespace
}  // namespace LS_ISA
