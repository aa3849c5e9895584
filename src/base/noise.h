// Standard normal noise from a seed: our own, the same everywhere, or what PyTorch would draw.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace mochi {

enum class NoiseSource {
  kMochi,      // counter-based: one sequence on every machine, compiler and number of threads
  kTorchCpu,   // torch.manual_seed(seed); torch.randn(shape) on a CPU with AVX2, bit for bit
  kTorchCuda,  // the same on a CUDA device with 132 multiprocessors (H100, H200), to 4e-6
};

// "mochi", "torch-cpu" or "torch-cuda"; anything else is an Error.
NoiseSource parse_noise_source(std::string_view name);
std::string_view noise_source_name(NoiseSource source);

// Fills `out` with the tensor of this seed and of out.size() elements. For kMochi a longer tensor
// begins with the shorter one; PyTorch's values depend on the size.
void fill_normal(NoiseSource source, std::uint64_t seed, std::span<float> out);

}  // namespace mochi
