#include "server/api_keys.h"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/file_kind.h"
#include "base/printable.h"
#include "base/text_file.h"
#include "server/header_text.h"

namespace mochi::server {
namespace {

std::array<std::uint8_t, 32> digest_of(std::string_view key) {
  std::array<std::uint8_t, 32> digest{};
  unsigned int size = 0;
  const int result =
      EVP_Digest(key.data(), key.size(), digest.data(), &size, EVP_sha256(), nullptr);
  if (result != 1 || size != digest.size()) fail("SHA-256: OpenSSL reports an error");
  return digest;
}

// Returns the line without its line break and blanks.
std::string_view trim_key_line(std::string_view line) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  return trim_blanks(line);
}

struct KeyLine {
  std::string_view name;  // empty: none is given
  std::string_view key;
};

// Throws Error about a line without telling what is in it.
KeyLine split_key_line(std::string_view line, const std::string& where) {
  constexpr std::size_t kMinLength = 16;
  const auto is_allowed = [](char letter) { return letter > ' ' && letter <= '~'; };
  const std::size_t colon = line.rfind(':');
  const std::size_t begin = colon == std::string_view::npos ? 0 : colon + 1;
  const KeyLine found{trim_blanks(line.substr(0, begin > 0 ? begin - 1 : 0)),
                      trim_blanks(line.substr(begin))};
  if (found.key.size() < kMinLength) {
    fail("{}: wanted a key of at least {} characters, found {}", where, kMinLength,
         found.key.size());
  }
  if (!std::ranges::all_of(found.key, is_allowed)) {
    fail("{}: wanted a key of printable ASCII characters without spaces, found another character",
         where);
  }
  const bool lacks_name = begin > 0 && found.name.empty();
  if (lacks_name || printable(found.name) != found.name) {
    fail("{}: wanted 'NAME: KEY', found a name that {}", where,
         lacks_name ? "is empty" : "is not printable UTF-8");
  }
  return found;
}

}  // namespace

ApiKeys ApiKeys::parse(std::string_view text, const std::string& source) {
  constexpr std::ptrdiff_t kNumNameBytes = 4;
  ApiKeys keys;
  for (int line_number = 1; !text.empty(); ++line_number) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = trim_key_line(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty() || line.starts_with('#')) continue;
    const std::string where = fmt::format("{}:{}", source, line_number);
    const KeyLine given = split_key_line(line, where);
    Entry entry{std::string(given.name), digest_of(given.key), line_number};
    if (entry.name.empty()) {
      const auto* const begin = entry.digest.begin();
      entry.name = fmt::format("{:02x}", fmt::join(begin, begin + kNumNameBytes, ""));
    }
    const auto same = std::ranges::find(keys.entries_, entry.digest, &Entry::digest);
    if (same != keys.entries_.end()) fail("{}: the key of line {} again", where, same->line);
    keys.entries_.push_back(std::move(entry));
  }
  return keys;
}

ApiKeys ApiKeys::read(const std::filesystem::path& path) {
  constexpr std::size_t kMaxBytes = std::size_t{1} << 20;
  const std::string text = read_text_file(path, kMaxBytes);
  check_text(path, text, "a file of keys");
  ApiKeys keys = parse(text, path.string());
  if (keys.is_empty()) fail("'{}': wanted one key per line, found none", path.string());
  return keys;
}

std::optional<std::string> ApiKeys::find(std::string_view authorization) const {
  constexpr std::string_view kScheme = "bearer ";
  if (to_lower(authorization.substr(0, kScheme.size())) != kScheme) return std::nullopt;
  const Digest wanted = digest_of(trim_blanks(authorization.substr(kScheme.size())));
  const Entry* found = nullptr;
  for (const Entry& entry : entries_) {
    const bool is_equal = CRYPTO_memcmp(entry.digest.data(), wanted.data(), wanted.size()) == 0;
    found = is_equal ? &entry : found;
  }
  if (found == nullptr) return std::nullopt;
  return found->name;
}

std::vector<std::string> ApiKeys::names() const {
  std::vector<std::string> names;
  names.reserve(entries_.size());
  for (const Entry& entry : entries_) names.push_back(entry.name);
  return names;
}

std::string warn_of_readers(const std::filesystem::path& path) {
  constexpr mode_t kOthers = S_IRWXG | S_IRWXO;
  struct stat status{};
  const bool is_exposed = ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) &&
                          (status.st_mode & kOthers) != 0;
  if (!is_exposed) return "";
  return fmt::format("'{}' can be read or changed by other users; chmod 600 prevents that",
                     printable(path.string()));
}

}  // namespace mochi::server
