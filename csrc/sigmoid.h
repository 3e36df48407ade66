// What the Python side asks of the kernels of sigmoids: a flat record of 8-byte fields, as in row_stats.h.
#pragma once

#include "row_stats.h"

// Arrays of `count` numbers without gaps. All but logits and gradient are double for F64 logits, else float.
#define LS_SIGMOIDS(FIELD)                                                              \
    FIELD(int64_t, isa)     /* as of `Call` */                                          \
    FIELD(int64_t, threads) /* at most */                                               \
    FIELD(int64_t, dtype)                                                               \
    FIELD(int64_t, count)                                                               \
    FIELD(const void*, logits)                                                          \
    FIELD(const void*, labels)     /* y in [0, 1] */                                    \
    FIELD(const void*, pos_weight) /* p; null where it is 1 */                          \
    FIELD(void*, losses)           /* forward writes these, where asked for */          \
    FIELD(void*, total)            /* and their sum */                                  \
    FIELD(const void*, upstream)   /* backward reads these, or one for all at stride 0 */ \
    FIELD(int64_t, upstream_stride)                                                     \
    FIELD(void*, gradient) /* and writes this; null in the forward */

struct Sigmoids { LS_SIGMOIDS(LS_MEMBER) };

#define LS_DECLARE_SIGMOIDS(isa) \
    namespace isa {              \
    void sigmoids(const Sigmoids&); \
    }
LS_DECLARE_SIGMOIDS(baseline)
LS_DECLARE_SIGMOIDS(avx2)
LS_DECLARE_SIGMOIDS(avx512)
LS_DECLARE_SIGMOIDS(avx512bf16)
