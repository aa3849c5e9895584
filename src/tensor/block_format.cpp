#include "tensor/block_format.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/parallel_for.h"
#include "tensor/block_decoding.h"
#include "tensor/block_encoding.h"

namespace mochi {
namespace {

// The largest F16: each scale is then finite.
constexpr float kLargestValue = 65504.0F;
constexpr std::size_t kGrainElements = 1 << 14;

constexpr std::array kNames{
    std::pair{BlockFormat::kQ8_0, "Q8_0"}, std::pair{BlockFormat::kQ4_0, "Q4_0"},
    std::pair{BlockFormat::kQ4_1, "Q4_1"}, std::pair{BlockFormat::kQ5_0, "Q5_0"},
    std::pair{BlockFormat::kQ5_1, "Q5_1"}, std::pair{BlockFormat::kQ2K, "Q2_K"},
    std::pair{BlockFormat::kQ3K, "Q3_K"},  std::pair{BlockFormat::kQ4K, "Q4_K"},
    std::pair{BlockFormat::kQ5K, "Q5_K"},  std::pair{BlockFormat::kQ6K, "Q6_K"},
};

std::size_t count_blocks(BlockFormat format, std::size_t num_elements, std::size_t num_bytes) {
  const std::size_t num_blocks = num_elements / elements_per_block(format);
  if (num_elements % elements_per_block(format) != 0) {
    fail("{}: wanted a multiple of {} elements, found {}", block_format_name(format),
         elements_per_block(format), num_elements);
  }
  if (num_bytes != num_blocks * bytes_per_block(format)) {
    fail("{}: {} elements take {} bytes, found {}", block_format_name(format), num_elements,
         num_blocks * bytes_per_block(format), num_bytes);
  }
  return num_blocks;
}

// Calls fn(first block, number of blocks) in parallel.
template <typename Fn>
void for_blocks(BlockFormat format, std::size_t num_blocks, const Fn& fn) {
  const auto grain = static_cast<std::int64_t>(kGrainElements / elements_per_block(format));
  parallel_for(0, static_cast<std::int64_t>(num_blocks), grain,
               [&](std::int64_t begin, std::int64_t end) {
                 fn(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
               });
}

// Places of a block's F16 scale and, if it has one, its F16 minimum.
std::span<const std::size_t> scale_offsets(BlockFormat format) {
  static constexpr std::array<std::size_t, 2> kFront{0, 2};
  static constexpr std::array<std::size_t, 2> kQ2K{80, 82};
  static constexpr std::array<std::size_t, 1> kQ3K{108};
  static constexpr std::array<std::size_t, 1> kQ6K{208};
  switch (format) {
    case BlockFormat::kQ8_0:
    case BlockFormat::kQ4_0:
    case BlockFormat::kQ5_0:
      return std::span(kFront).first(1);
    case BlockFormat::kQ4_1:
    case BlockFormat::kQ5_1:
    case BlockFormat::kQ4K:
    case BlockFormat::kQ5K:
      return kFront;
    case BlockFormat::kQ2K:
      return kQ2K;
    case BlockFormat::kQ3K:
      return kQ3K;
    case BlockFormat::kQ6K:
      return kQ6K;
  }
  return {};
}

void check_values(BlockFormat format, std::span<const float> values) {
  std::atomic<bool> is_valid = true;
  parallel_for(0, static_cast<std::int64_t>(values.size()), kGrainElements,
               [&](std::int64_t begin, std::int64_t end) {
                 unsigned num_invalid = 0;
                 for (std::int64_t i = begin; i < end; ++i) {
                   const float magnitude = std::abs(values[static_cast<std::size_t>(i)]);
                   num_invalid += magnitude <= kLargestValue ? 0U : 1U;  // counts NaN, too
                 }
                 if (num_invalid != 0) is_valid = false;
               });
  if (is_valid) return;
  const auto found = std::ranges::find_if_not(
      values, [](float value) { return std::abs(value) <= kLargestValue; });
  fail("{}: wanted finite values up to {}, found {}", block_format_name(format), kLargestValue,
       *found);
}

}  // namespace

const char* block_format_name(BlockFormat format) {
  const auto* const found =
      std::ranges::find(kNames, format, [](const auto& n) { return n.first; });
  return found == kNames.end() ? "?" : found->second;
}

std::optional<BlockFormat> parse_block_format(std::string_view name) {
  const auto* const found = std::ranges::find(kNames, name, [](const auto& n) { return n.second; });
  if (found == kNames.end()) return std::nullopt;
  return found->first;
}

void dequantize(BlockFormat format, std::span<const std::byte> blocks, std::span<float> values) {
  const std::size_t num_blocks = count_blocks(format, values.size(), blocks.size());
  const DecodeBlocksFn decode = find_block_decoder(format);
  for_blocks(format, num_blocks, [&](std::size_t first, std::size_t count) {
    decode(blocks.data() + first * bytes_per_block(format), count,
           values.data() + first * elements_per_block(format));
  });
}

bool all_finite(BlockFormat format, std::span<const std::byte> blocks) {
  const std::size_t block_bytes = bytes_per_block(format);
  std::atomic<bool> is_finite = true;
  for_blocks(format, blocks.size() / block_bytes, [&](std::size_t first, std::size_t count) {
    unsigned num_invalid = 0;
    for (const std::size_t offset : scale_offsets(format)) {
      const std::byte* scale = blocks.data() + first * block_bytes + offset;
      for (std::size_t i = 0; i < count; ++i, scale += block_bytes) {
        constexpr std::uint16_t kSpecial = 0x7c00;  // the exponent of infinity and NaN
        std::uint16_t bits = 0;
        std::memcpy(&bits, scale, sizeof(bits));
        num_invalid += (bits & kSpecial) == kSpecial ? 1U : 0U;
      }
    }
    if (num_invalid != 0) is_finite = false;
  });
  return is_finite;
}

bool can_quantize(BlockFormat format) { return find_block_encoder(format) != nullptr; }

void quantize(BlockFormat format, std::span<const float> values, std::span<std::byte> blocks) {
  const std::size_t num_blocks = count_blocks(format, values.size(), blocks.size());
  const EncodeBlocksFn encode = find_block_encoder(format);
  if (encode == nullptr) fail("{} is a format that is only read", block_format_name(format));
  check_values(format, values);
  for_blocks(format, num_blocks, [&](std::size_t first, std::size_t count) {
    encode(values.data() + first * elements_per_block(format), count,
           blocks.data() + first * bytes_per_block(format));
  });
}

}  // namespace mochi
