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

#include "lanes.h"

namespace LS_ISA {
namespace {

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
