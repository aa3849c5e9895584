#include "base/noise.h"

#include <algorithm>
#include <cstddef>

#include "base/normal_quantile.h"
#include "base/parallel_for.h"
#include "base/philox.h"
#include "base/torch_noise.h"

namespace mochi {
namespace {

void fill_normal_mochi(std::uint64_t seed, std::span<float> out) {
  constexpr std::size_t kPerBlock = 4;
  constexpr std::int64_t kGrain = 1 << 12;
  const auto num_blocks = static_cast<std::int64_t>((out.size() + kPerBlock - 1) / kPerBlock);
  parallel_for(0, num_blocks, kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (auto block = static_cast<std::uint64_t>(begin); block < static_cast<std::uint64_t>(end);
         ++block) {
      const PhiloxWords words = philox_4x32_10({low_half(block), high_half(block), 0, 0}, seed);
      const std::size_t first = block * kPerBlock;
      const std::size_t count = std::min(kPerBlock, out.size() - first);
      for (std::size_t i = 0; i < count; ++i) out[first + i] = normal_of_word(words[i]);
    }
  });
}

}  // namespace

void fill_normal(NoiseSource source, std::uint64_t seed, std::span<float> out) {
  switch (source) {
    case NoiseSource::kMochi:
      return fill_normal_mochi(seed, out);
    case NoiseSource::kTorchCpu:
      return fill_normal_torch_cpu(seed, out);
    case NoiseSource::kTorchCuda:
      return fill_normal_torch_cuda(seed, out);
  }
}

}  // namespace mochi
