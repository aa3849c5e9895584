#include "tensor/float_arrays.h"

#include <atomic>
#include <cstring>

#include "base/error.h"
#include "base/parallel_for.h"

namespace mochi {
namespace {

constexpr std::int64_t kGrain = 1 << 16;

void check_sizes(DType from, std::size_t source_bytes, std::size_t num_elements) {
  if (from == DType::kI32 || from == DType::kU8) {
    fail("cannot convert {} to a float format", dtype_name(from));
  }
  if (source_bytes != num_elements * dtype_bytes(from)) {
    fail("conversion from {}: wanted {} bytes for {} elements, found {}", dtype_name(from),
         num_elements * dtype_bytes(from), num_elements, source_bytes);
  }
}

// One loop per pair of formats; memcpy because elements in a file may lie unaligned.
template <typename Stored, typename Target, typename Decode>
void convert_elements(std::span<const std::byte> source, std::span<Target> target,
                      const Decode& decode) {
  const std::byte* from = source.data();
  Target* to = target.data();
  parallel_for(0, static_cast<std::int64_t>(target.size()), kGrain,
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t i = begin; i < end; ++i) {
                   Stored stored;
                   std::memcpy(&stored, from + static_cast<std::size_t>(i) * sizeof(Stored),
                               sizeof(Stored));
                   to[i] = decode(stored);
                 }
               });
}

// finish turns the float into a Target.
template <typename Target, typename Finish>
void convert_any(DType from, std::span<const std::byte> source, std::span<Target> target,
                 const Finish& finish) {
  check_sizes(from, source.size(), target.size());
  switch (from) {
    case DType::kF32:
      return convert_elements<float>(source, target, [&](float v) { return finish(v); });
    case DType::kF16:
      return convert_elements<std::uint16_t>(
          source, target, [&](std::uint16_t v) { return finish(f16_to_f32(v)); });
    case DType::kBF16:
      return convert_elements<std::uint16_t>(
          source, target, [&](std::uint16_t v) { return finish(bf16_to_f32(v)); });
    case DType::kF8E4M3:
      return convert_elements<std::uint8_t>(
          source, target, [&](std::uint8_t v) { return finish(f8_e4m3_to_f32(v)); });
    case DType::kF8E5M2:
      return convert_elements<std::uint8_t>(
          source, target, [&](std::uint8_t v) { return finish(f8_e5m2_to_f32(v)); });
    case DType::kI8:
      return convert_elements<std::int8_t>(
          source, target, [&](std::int8_t v) { return finish(static_cast<float>(v)); });
    case DType::kI32:
    case DType::kU8:
      break;  // refused by check_sizes
  }
}

// Returns true if no element has all bits of `special`, which mark a value that is not finite.
template <typename Bits>
bool has_none(std::span<const std::byte> bytes, Bits special) {
  std::atomic<bool> found = false;
  parallel_for(0, static_cast<std::int64_t>(bytes.size() / sizeof(Bits)), kGrain,
               [&](std::int64_t begin, std::int64_t end) {
                 Bits any = 0;
                 for (std::int64_t i = begin; i < end; ++i) {
                   Bits bits;
                   std::memcpy(&bits, bytes.data() + static_cast<std::size_t>(i) * sizeof(Bits),
                               sizeof(Bits));
                   any |= static_cast<Bits>((bits & special) == special ? 1 : 0);
                 }
                 if (any != 0) found = true;
               });
  return !found;
}

}  // namespace

bool all_finite(DType dtype, std::span<const std::byte> bytes) {
  switch (dtype) {
    case DType::kF32:
      return has_none<std::uint32_t>(bytes, 0x7f800000U);
    case DType::kF16:
      return has_none<std::uint16_t>(bytes, 0x7c00U);
    case DType::kBF16:
      return has_none<std::uint16_t>(bytes, 0x7f80U);
    case DType::kF8E4M3:
      return has_none<std::uint8_t>(bytes, 0x7fU);  // NaN alone: there is no infinity
    case DType::kF8E5M2:
      return has_none<std::uint8_t>(bytes, 0x7cU);
    case DType::kI32:
    case DType::kI8:
    case DType::kU8:
      break;
  }
  return true;
}

void convert_to_f32(DType from, std::span<const std::byte> source, std::span<float> target) {
  convert_any(from, source, target, [](float value) { return value; });
}

void convert_to_f16(std::span<const float> source, std::span<std::uint16_t> target) {
  convert_any(DType::kF32, std::as_bytes(source), target, f32_to_f16);
}

void convert_to_bf16(DType from, std::span<const std::byte> source, std::span<BFloat16> target) {
  convert_any(from, source, target, [](float value) { return BFloat16{f32_to_bf16(value)}; });
}

}  // namespace mochi
