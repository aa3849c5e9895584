// The numbers of torch.manual_seed(seed); torch.randn(n) in fp32, without PyTorch.
#pragma once

#include <cstdint>
#include <span>

namespace mochi {

// On a CPU with AVX2: bit for bit for 16 elements and more; for fewer up to the last bit of the C
// library's double-precision log1p, sin and cos, which rounding to float hides.
void fill_normal_torch_cpu(std::uint64_t seed, std::span<float> out);

inline constexpr int kReferenceMultiprocessors = 132;  // an H100's or H200's

// On a CUDA device: to 4e-6, the accuracy of the device's fast sine. Which random number goes to
// which element depends on the number of multiprocessors.
void fill_normal_torch_cuda(std::uint64_t seed, std::span<float> out,
                            int num_multiprocessors = kReferenceMultiprocessors);

}  // namespace mochi
