// What the Python side asks of the kernels: a flat record of 8-byte fields, in the order of backends/cpu.py.
#pragma once

#include <cstdint>

enum DType : int64_t { F32, BF16, F16, F64 };
enum PriorKind : int64_t { NONE, UNIFORM, VECTORS };

// Values are double for F64 logits, else float. Strides count elements. Null: not asked for.

// A number for each row: scale, times the value of the row where there are values. 0 for all where scale is 0.
struct Slope {
    const void* values;
    int64_t stride;
    double scale;
};

// Rows of an array of two or three dimensions, (outer, inner, columns).
struct Rows {
    void* data;
    int64_t inner, outer_stride, stride;
    int64_t step;  // between columns
};

struct Call {
    int64_t isa;      // 0 baseline, 1 AVX2, 2 AVX-512, 3 with bfloat16, -1 the best there is
    int64_t threads;  // at most
    int64_t dtype;
    int64_t rows, columns;

    Rows logits;

    const int64_t* index;  // (rows, picks)
    int64_t picks, index_stride, index_step;
    int64_t num_classes, first_class;

    int64_t prior_kind;
    const void* prior;  // (columns,), or (P, columns) beside prior_row
    int64_t prior_stride;
    const int64_t* prior_row;
    int64_t prior_row_stride, prior_rows;  // P
    int64_t finite_support;

    const uint8_t* counted;
    int64_t counted_stride;

    // forward writes these, side by side; backward reads max, argmax, log_sum, prior_mass (stride),
    // log_sum_sq and mean_logit
    void* max;
    int64_t* argmax;
    void* log_sum;
    void* at_index;
    uint8_t* seen;
    void* at_prior;
    void* prior_mass;
    int64_t prior_mass_stride;
    void* log_sum_sq;
    void* mean_logit;

    // What is made of the statistics: Σ slope·statistic. Forward writes it where asked, from the slopes of
    // log_sum, at_index and at_prior alone; backward makes its gradient.
    Slope of_max, of_log_sum, of_index;
    int64_t of_index_step;
    Slope of_prior, of_log_sum_sq, of_mean_logit;
    void* combined;  // (rows,)
    void* total;     // (), the sum of those of the rows that count

    // backward alone
    int64_t shift_free;  // the combination of statistics does not depend on m: no gradient through it
    Rows out;            // may be the logits
};

// Runs work(data) on up to `threads` threads, which share what there is to do among themselves.
void parallel(int64_t threads, void (*work)(void*), void* data);

#define LS_DECLARE(isa)            \
    namespace isa {                \
    void forward(const Call&);     \
    void backward(const Call&);    \
    }
LS_DECLARE(baseline)
LS_DECLARE(avx2)
LS_DECLARE(avx512)
LS_DECLARE(avx512bf16)
