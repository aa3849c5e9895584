#include "server/digest.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <iterator>

#include "base/error.h"

namespace mochi::server {

Sha256 sha256(std::string_view bytes) {
  Sha256 digest{};
  unsigned int num_bytes = 0;
  if (EVP_Digest(bytes.data(), bytes.size(), digest.data(), &num_bytes, EVP_sha256(), nullptr) !=
      1) {
    fail("cannot compute a SHA-256");
  }
  return digest;
}

std::string sha256_hex(std::string_view bytes) {
  std::string text;
  for (const std::uint8_t byte : sha256(bytes)) {
    fmt::format_to(std::back_inserter(text), "{:02x}", byte);
  }
  return text;
}

}  // namespace mochi::server
