// What the Python side asks of the kernels: a flat record of 8-byte fields.
#pragma once

#include <cstdint>

enum DType : int64_t { F32, BF16, F16, F64 };
enum PriorKind : int64_t { NONE, UNIFORM, VECTORS };

// Each record is a list of its fields, from which its struct is made, and the text by which backends/cpu.py tells
// that the library has the fields that it packs.
//
// Values are double for F64 logits, else float. Strides count elements. Null: not asked for.

// A number for each row: scale, times the value of the row where there are values. 0 for all where scale is 0.
#define LS_SLOPE(FIELD)        \
    FIELD(const void*, values) \
    FIELD(int64_t, stride)     \
    FIELD(double, scale)

// Rows of an array of two or three dimensions, (outer, inner, columns).
#define LS_ROWS(FIELD)           \
    FIELD(void*, data)           \
    FIELD(int64_t, inner)        \
    FIELD(int64_t, outer_stride) \
    FIELD(int64_t, stride)       \
    FIELD(int64_t, step) /* between columns */

#define LS_CALL(FIELD)                                                                                   \
    FIELD(int64_t, isa)     /* 0 baseline, 1 AVX2, 2 AVX-512, 3 with bfloat16, -1 the best there is */   \
    FIELD(int64_t, threads) /* at most */                                                                \
    FIELD(int64_t, dtype)                                                                                \
    FIELD(int64_t, rows)                                                                                 \
    FIELD(int64_t, columns)                                                                              \
    FIELD(Rows, logits)                                                                                  \
                                                                                                         \
    FIELD(const int64_t*, index) /* (rows, picks) */                                                     \
    FIELD(int64_t, picks)                                                                                \
    FIELD(int64_t, index_stride)                                                                         \
    FIELD(int64_t, index_step)                                                                           \
    FIELD(int64_t, num_classes)                                                                          \
    FIELD(int64_t, first_class)                                                                          \
                                                                                                         \
    FIELD(int64_t, prior_kind)                                                                           \
    FIELD(const void*, prior) /* (columns,), or (P, columns) beside prior_row */                         \
    FIELD(int64_t, prior_stride)                                                                         \
    FIELD(const int64_t*, prior_row)                                                                     \
    FIELD(int64_t, prior_row_stride)                                                                     \
    FIELD(int64_t, prior_rows) /* P */                                                                   \
    FIELD(int64_t, finite_support)                                                                       \
                                                                                                         \
    FIELD(const uint8_t*, counted)                                                                       \
    FIELD(int64_t, counted_stride)                                                                       \
                                                                                                         \
    /* forward writes these, side by side; backward reads max, argmax, log_sum, prior_mass (stride), */  \
    /* log_sum_sq and mean_logit */                                                                      \
    FIELD(void*, max)                                                                                    \
    FIELD(int64_t*, argmax)                                                                              \
    FIELD(void*, log_sum)                                                                                \
    FIELD(void*, at_index)                                                                               \
    FIELD(uint8_t*, seen)                                                                                \
    FIELD(void*, at_prior)                                                                               \
    FIELD(void*, prior_mass)                                                                             \
    FIELD(int64_t, prior_mass_stride)                                                                    \
    FIELD(void*, log_sum_sq)                                                                             \
    FIELD(void*, mean_logit)                                                                             \
                                                                                                         \
    /* What is made of the statistics: Σ slope·statistic. Forward writes it where asked, from the */     \
    /* slopes of log_sum, at_index and at_prior alone; backward makes its gradient. */                   \
    FIELD(Slope, of_max)                                                                                 \
    FIELD(Slope, of_log_sum)                                                                             \
    FIELD(Slope, of_index)                                                                               \
    FIELD(int64_t, of_index_step)                                                                        \
    FIELD(Slope, of_prior)                                                                               \
    FIELD(Slope, of_log_sum_sq)                                                                          \
    FIELD(Slope, of_mean_logit)                                                                          \
    FIELD(void*, combined) /* (rows,) */                                                                 \
    FIELD(void*, total)    /* (), the sum of those of the rows that count */                             \
                                                                                                         \
    /* backward alone */                                                                                 \
    FIELD(int64_t, shift_free) /* the combination does not depend on m: no gradient through it */        \
    FIELD(Rows, out)           /* may be the logits */

#define LS_MEMBER(type, name) type name;
struct Slope { LS_SLOPE(LS_MEMBER) };
struct Rows { LS_ROWS(LS_MEMBER) };
struct Call { LS_CALL(LS_MEMBER) };

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
