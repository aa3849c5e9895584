#include "base/torch_noise.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <numbers>
#include <random>

#include "base/philox.h"

namespace mochi {
namespace {

// PyTorch's vector functions are the single-precision polynomials of the Cephes library, whose
// roundings depend on which products and sums are fused. Here every fused one is a std::fma; a
// product left outside of one is either exact (by a power of two) or meant to be rounded.
// tests/base/noise_test.cpp pins the bits.

constexpr std::size_t kBlock = 16;

// Logarithm for normal x > 0.
float cephes_log(float x) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  float exponent = static_cast<float>(static_cast<int>(bits >> 23) - 126);
  const float mantissa = std::bit_cast<float>((bits & 0x007FFFFFU) | 0x3F000000U);  // [0.5, 1)
  float m = mantissa - 1.0F;
  if (mantissa < 0.707106781186547524F) {
    exponent -= 1.0F;
    m += mantissa;  // exact: 2·mantissa − 1
  }
  constexpr std::array kLog{7.0376836292e-2F,  -1.1514610310e-1F, 1.1676998740e-1F,
                            -1.2420140846e-1F, 1.4249322787e-1F,  -1.6668057665e-1F,
                            2.0000714765e-1F,  -2.4999993993e-1F, 3.3333331174e-1F};
  constexpr float kLn2Low = -2.12194440e-4F;
  constexpr float kLn2High = 0.693359375F;
  const float square = m * m;
  float y = kLog[0];
  for (std::size_t i = 1; i < kLog.size(); ++i) y = std::fma(y, m, kLog[i]);
  y = y * m;
  y = std::fma(y, square, exponent * kLn2Low);
  y = std::fma(square, -0.5F, y);
  return std::fma(exponent, kLn2High, m + y);
}

struct SineCosine {
  float sine;
  float cosine;
};

// For x >= 0: reduced to [−π/4, π/4] by a π/4 in three parts, then a polynomial for each octant.
SineCosine cephes_sine_cosine(float x) {
  const int octant = (static_cast<int>(x * 1.27323954473516F) + 1) & ~1;
  const float turns = static_cast<float>(octant);
  x = std::fma(turns, -0.78515625F, x);
  x = std::fma(turns, -2.4187564849853515625e-4F, x);
  x = std::fma(turns, -3.77489497744594108e-8F, x);
  const float square = x * x;

  float even = std::fma(2.443315711809948e-5F, square, -1.388731625493765e-3F);
  even = std::fma(even, square, 4.166664568298827e-2F);
  even = even * square;
  even = std::fma(even, square, square * -0.5F);
  even = even + 1.0F;

  float odd = std::fma(-1.9515295891e-4F, square, 8.3321608736e-3F);
  odd = std::fma(odd, square, -1.6666654611e-1F);
  odd = odd * square;
  odd = std::fma(odd, x, x);

  const bool is_swapped = (octant & 2) != 0;
  const float sine = is_swapped ? even : odd;
  const float cosine = is_swapped ? odd : even;
  return {(octant & 4) != 0 ? -sine : sine, ((octant - 2) & 4) == 0 ? -cosine : cosine};
}

// Box–Muller: uniform element j with uniform element j + 8 gives both normal ones.
void transform_block(float* block) {
  constexpr float kTwoPi = 2.0F * std::numbers::pi_v<float>;
  for (std::size_t j = 0; j < kBlock / 2; ++j) {
    const float radius = std::sqrt(-2.0F * cephes_log(1.0F - block[j]));
    const SineCosine angle = cephes_sine_cosine(kTwoPi * block[j + kBlock / 2]);
    // The zero is PyTorch's mean: it turns −0 into +0.
    block[j] = radius * angle.cosine + 0.0F;
    block[j + kBlock / 2] = radius * angle.sine + 0.0F;
  }
}

float uniform_24_bits(std::mt19937& generator) {
  return static_cast<float>(generator() & 0xFFFFFFU) * 0x1p-24F;
}

double uniform_53_bits(std::mt19937& generator) {
  const std::uint64_t high = generator();
  const std::uint64_t bits = (high << 32 | generator()) & ((std::uint64_t{1} << 53) - 1);
  return static_cast<double>(bits) * 0x1p-53;
}

// Fewer than 16 elements: one double at a time, every second one kept from the pair before it.
void fill_few(std::mt19937& generator, std::span<float> out) {
  for (std::size_t i = 0; i < out.size(); i += 2) {
    const double angle = 2.0 * std::numbers::pi * uniform_53_bits(generator);
    const double radius = std::sqrt(-2.0 * std::log1p(-uniform_53_bits(generator)));
    out[i] = static_cast<float>(radius * std::cos(angle));
    if (i + 1 < out.size()) out[i + 1] = static_cast<float>(radius * std::sin(angle));
  }
}

// cuRAND's pair of normals from two words: the uniforms are rounded to float before they are used.
std::array<float, 2> curand_box_muller(std::uint32_t first, std::uint32_t second) {
  constexpr float kTwoPiScale = 0x1p-32F * (2.0F * std::numbers::pi_v<float>);
  const float u = std::fma(static_cast<float>(first), 0x1p-32F, 0x1p-33F);
  const float v = std::fma(static_cast<float>(second), kTwoPiScale, kTwoPiScale / 2.0F);
  const double radius = std::sqrt(-2.0 * std::log(static_cast<double>(u)));
  return {static_cast<float>(radius * std::sin(static_cast<double>(v))),
          static_cast<float>(radius * std::cos(static_cast<double>(v)))};
}

}  // namespace

void fill_normal_torch_cpu(std::uint64_t seed, std::span<float> out) {
  std::mt19937 generator(low_half(seed));
  if (out.size() < kBlock) return fill_few(generator, out);
  const auto draw = [&generator] { return uniform_24_bits(generator); };
  std::generate(out.begin(), out.end(), draw);
  const std::size_t num_whole = out.size() / kBlock * kBlock;
  for (std::size_t begin = 0; begin < num_whole; begin += kBlock) transform_block(&out[begin]);
  if (num_whole == out.size()) return;
  // The last 16 elements are drawn again; the last whole block may have written some of them.
  const std::span<float> tail = out.last(kBlock);
  std::generate(tail.begin(), tail.end(), draw);
  transform_block(tail.data());
}

void fill_normal_torch_cuda(std::uint64_t seed, std::span<float> out, int num_multiprocessors) {
  constexpr std::size_t kThreadsPerBlock = 256;
  constexpr std::size_t kBlocksPerMultiprocessor = 8;
  const std::size_t num_wanted = (out.size() + kThreadsPerBlock - 1) / kThreadsPerBlock;
  const std::size_t num_blocks = std::min(
      num_wanted, static_cast<std::size_t>(num_multiprocessors) * kBlocksPerMultiprocessor);
  const std::size_t num_threads = num_blocks * kThreadsPerBlock;
  // In every round a thread draws four normals and writes them one grid apart.
  for (std::size_t round = 0; round * 4 * num_threads < out.size(); ++round) {
    for (std::size_t thread = 0; thread < num_threads; ++thread) {
      const PhiloxWords words = philox_4x32_10(
          {low_half(round), high_half(round), low_half(thread), high_half(thread)}, seed);
      const auto [first, second] = curand_box_muller(words[0], words[1]);
      const auto [third, fourth] = curand_box_muller(words[2], words[3]);
      const std::array normals{first, second, third, fourth};
      for (std::size_t i = 0; i < normals.size(); ++i) {
        const std::size_t element = (round * 4 + i) * num_threads + thread;
        if (element < out.size()) out[element] = normals[i];
      }
    }
  }
}

}  // namespace mochi
