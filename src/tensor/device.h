// Where memory is and work is done.
#pragma once

#include <cstdint>
#include <string>

namespace mochi {

// A device of this machine. Several CPU devices have separate tensors and state in the same memory.
struct Device {
  enum class Kind : std::uint8_t { kCpu, kCuda };

  Kind kind = Kind::kCpu;
  std::uint8_t index = 0;  // among those of this kind

  static constexpr Device cpu(int index = 0) {
    return {Kind::kCpu, static_cast<std::uint8_t>(index)};
  }
  static constexpr Device cuda(int index = 0) {
    return {Kind::kCuda, static_cast<std::uint8_t>(index)};
  }
  constexpr bool is_cpu() const { return kind == Kind::kCpu; }
  // "cpu", "cuda", "cuda:1"
  std::string name() const {
    const std::string kind_name = is_cpu() ? "cpu" : "cuda";
    return index == 0 ? kind_name : kind_name + ":" + std::to_string(index);
  }
  bool operator==(const Device&) const = default;
};

}  // namespace mochi
