// Element types of tensors and of checkpoint files.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mochi {

enum class DType : std::uint8_t { kF32, kF16, kBF16, kF8E4M3, kF8E5M2, kI32, kI8, kU8 };

// Size of one element in bytes.
constexpr std::size_t dtype_bytes(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kF16:
    case DType::kBF16:
      return 2;
    case DType::kF8E4M3:
    case DType::kF8E5M2:
    case DType::kI8:
    case DType::kU8:
      return 1;
  }
  return 0;
}

// Returns the name that safetensors uses ("F32", "BF16", "F8_E4M3", ...).
constexpr const char* dtype_name(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "F32";
    case DType::kF16:
      return "F16";
    case DType::kBF16:
      return "BF16";
    case DType::kF8E4M3:
      return "F8_E4M3";
    case DType::kF8E5M2:
      return "F8_E5M2";
    case DType::kI32:
      return "I32";
    case DType::kI8:
      return "I8";
    case DType::kU8:
      return "U8";
  }
  return "?";
}

constexpr bool is_float(DType dtype) {
  return dtype != DType::kI32 && dtype != DType::kI8 && dtype != DType::kU8;
}

// A bfloat16 value, stored as its bits. Arithmetic is done in float.
struct BFloat16 {
  std::uint16_t bits;
};

}  // namespace mochi
