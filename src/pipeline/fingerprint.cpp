// Recognising a file again without reading all of it.
#include <fmt/core.h>

#include <cstdint>
#include <span>

#include "base/mapped_file.h"
#include "mochi/mochi.h"

namespace mochi {
namespace {

// FNV-1a, 64 bits.
class Hash {
 public:
  void add(std::byte byte) {
    constexpr std::uint64_t kPrime = 0x100000001b3;
    state_ = (state_ ^ static_cast<std::uint64_t>(byte)) * kPrime;
  }
  void add(std::span<const std::byte> bytes) {
    for (const std::byte byte : bytes) add(byte);
  }
  std::uint64_t value() const { return state_; }

 private:
  std::uint64_t state_ = 0xcbf29ce484222325;
};

}  // namespace

std::string fingerprint_file(const std::filesystem::path& path) {
  constexpr std::size_t kBlockBytes = 4096;
  constexpr std::size_t kNumBlocks = 256;
  const MappedFile file(path);
  const std::span<const std::byte> bytes = file.bytes();
  Hash hash;
  for (int shift = 0; shift < 64; shift += 8) {
    hash.add(static_cast<std::byte>(static_cast<std::uint64_t>(bytes.size()) >> shift));
  }
  if (bytes.size() < kBlockBytes * kNumBlocks) {
    hash.add(bytes);
  } else {
    const std::size_t last_begin = bytes.size() - kBlockBytes;
    for (std::size_t block = 0; block < kNumBlocks; ++block) {
      hash.add(bytes.subspan(last_begin / (kNumBlocks - 1) * block, kBlockBytes));
    }
    hash.add(bytes.subspan(last_begin));
  }
  return fmt::format("{:016x}", hash.value());
}

}  // namespace mochi
