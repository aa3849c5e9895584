// A checksum that finds damage of large files: a flipped bit, tensors that were dropped or renamed.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace mochi::job {

// Not cryptographic. Several GB per second.
class Checksum {
 public:
  void add(std::span<const std::byte> bytes);
  void add(std::string_view text);  // with its length, so that the split between texts matters
  void add(std::uint64_t number);
  std::string text() const;  // 16 hexadecimal digits

 private:
  std::array<std::uint64_t, 4> lanes_{1, 2, 3, 4};
};

}  // namespace mochi::job
