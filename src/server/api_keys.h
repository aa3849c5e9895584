// The keys that clients must have.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mochi::server {

// Holds SHA-256 digests of the keys, not the keys. No message contains a key.
class ApiKeys {
 public:
  // No key: find() returns nothing.
  ApiKeys() = default;
  // Reads lines "KEY" and "NAME: KEY"; empty lines and those that begin with # are skipped. A key
  // has at least 16 printable ASCII characters, no space and no colon. Throws Error with
  // "SOURCE:LINE".
  static ApiKeys parse(std::string_view text, const std::string& source);
  // Throws Error naming the file, also if it has no keys.
  static ApiKeys read(const std::filesystem::path& path);

  // Returns the name of the key in a header "Authorization: Bearer KEY"; nothing if the header has
  // no known key. The time does not depend on which key, if any, is equal.
  std::optional<std::string> find(std::string_view authorization) const;

  bool is_empty() const { return entries_.empty(); }
  // Names of the keys, in the file's order.
  std::vector<std::string> names() const;

 private:
  using Digest = std::array<std::uint8_t, 32>;
  struct Entry {
    std::string name;  // default: the first 8 hexadecimal digits of the digest
    Digest digest{};
    int line = 0;  // in the file
  };

  std::vector<Entry> entries_;
};

// Returns a warning if others than the owner can read the file; else an empty text.
std::string warn_of_readers(const std::filesystem::path& path);

}  // namespace mochi::server
