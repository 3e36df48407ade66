// What row_stats.cpp offers, once per instruction set; entry.cpp chooses.
#pragma once

#define LS_DECLARE(isa) namespace isa { const char *name(); }
LS_DECLARE(baseline)
#ifdef LS_X86
LS_DECLARE(avx2)
LS_DECLARE(avx512)
#endif
