// Matrix products by cuBLASLt, which is loaded when first asked for: the program runs without it on
// machines that have no GPU.
#pragma once

namespace mochi::cuda {

class CublasLt {};

}  // namespace mochi::cuda
