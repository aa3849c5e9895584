// For files that implement operations. Each is a function run(Cpu&, const ops::X&), followed by
// `template void compute(Cpu&, const ops::X&);`. Where one operation is a step of another, the line
// `extern` below declares that a different source implements it.
#pragma once

#include "backend/cpu/cpu.h"

namespace mochi::cpu {

template <class Op>
void compute(Cpu& cpu, const Op& op) {
  run(cpu, op);
}

extern template void compute(Cpu&, const ops::Copy&);
extern template void compute(Cpu&, const ops::Linear&);
extern template void compute(Cpu&, const ops::GatedActivation&);
extern template void compute(Cpu&, const ops::QkNormRope&);

}  // namespace mochi::cpu
