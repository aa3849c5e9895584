// Quantised weights in blocks, as GGML and GGUF files store them. A block holds the integers of 32
// or 256 consecutive elements of a row, and the scales (and minima) that turn them into floats.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace mochi {

enum class BlockFormat : std::uint8_t {
  kQ8_0,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ2K,
  kQ3K,
  kQ4K,
  kQ5K,
  kQ6K
};

constexpr std::size_t elements_per_block(BlockFormat format) {
  return format <= BlockFormat::kQ5_1 ? 32 : 256;
}

constexpr std::size_t bytes_per_block(BlockFormat format) {
  switch (format) {
    case BlockFormat::kQ8_0:
      return 34;
    case BlockFormat::kQ4_0:
      return 18;
    case BlockFormat::kQ4_1:
      return 20;
    case BlockFormat::kQ5_0:
      return 22;
    case BlockFormat::kQ5_1:
      return 24;
    case BlockFormat::kQ2K:
      return 84;
    case BlockFormat::kQ3K:
      return 110;
    case BlockFormat::kQ4K:
      return 144;
    case BlockFormat::kQ5K:
      return 176;
    case BlockFormat::kQ6K:
      return 210;
  }
  return 0;
}

// Returns the name that GGML uses ("Q8_0", "Q4_K", ...).
const char* block_format_name(BlockFormat format);
// Returns the format that GGML calls `name`, or nothing.
std::optional<BlockFormat> parse_block_format(std::string_view name);

// Returns the floats of `blocks`, which needs no alignment. Both spans hold the same whole number
// of blocks, else Error. The values are exact: no product of a block needs more than 24 bits. Runs
// in parallel.
void dequantize(BlockFormat format, std::span<const std::byte> blocks, std::span<float> values);

// Returns true if no value of these whole blocks is NaN or infinite. Runs in parallel.
bool all_finite(BlockFormat format, std::span<const std::byte> blocks);

// Returns true if quantize() writes this format: Q8_0, Q4_0, Q4_K, Q5_K or Q6_K.
bool can_quantize(BlockFormat format);

// Writes the blocks of `values`. Both spans hold the same whole number of blocks, and the values
// are finite and at most 65504 in magnitude, else Error. Q8_0 and Q4_0 take the scale from the
// largest element, as GGML does; the others search the scales with the least squared error. The
// bytes are the same on every machine. Runs in parallel.
void quantize(BlockFormat format, std::span<const float> values, std::span<std::byte> blocks);

}  // namespace mochi
