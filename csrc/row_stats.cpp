// Compiled once per instruction set, LS_ISA.
#define LS_TEXT_(x) #x
#define LS_TEXT(x) LS_TEXT_(x)

namespace LS_ISA {
const char *name() { return LS_TEXT(LS_ISA); }
}
