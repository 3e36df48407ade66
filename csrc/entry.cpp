// The C ABI, and the choice of the instruction set at run time.
#include "isa.h"

// The instruction set in use.
extern "C" __attribute__((visibility("default"))) const char *ls_isa(void) {
#ifdef LS_X86
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    return avx512::name();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2::name();
#endif
  return baseline::name();
}
