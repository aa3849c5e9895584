#include "hub/repository.h"

#include <curl/curl.h>

#include <algorithm>
#include <array>
#include <memory>

#include "base/error.h"

namespace mochi::hub {
namespace {

constexpr std::string_view kNameLetters =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";

bool is_name(std::string_view text) {
  return !text.empty() && text.find_first_not_of(kNameLetters) == std::string_view::npos &&
         text.find_first_not_of('.') != std::string_view::npos;
}

// Git allows more letters, but none that need care in an address or a terminal.
bool is_revision(std::string_view text) {
  return !text.empty() && !text.starts_with('/') && !text.ends_with('/') &&
         text.find("..") == std::string_view::npos &&
         std::ranges::all_of(text, [](char letter) { return letter > ' ' && letter < '\x7f'; });
}

// Keeps slashes only if they separate folders.
std::string percent_encode(std::string_view text, bool keeps_slashes) {
  constexpr std::string_view kKept = "-_.~";
  std::string encoded;
  for (const char letter : text) {
    const auto code = static_cast<unsigned char>(letter);
    const bool is_plain = (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') ||
                          (letter >= '0' && letter <= '9') ||
                          kKept.find(letter) != std::string_view::npos;
    if (is_plain || (letter == '/' && keeps_slashes)) {
      encoded += letter;
    } else {
      encoded += fmt::format("%{:02X}", code);
    }
  }
  return encoded;
}

// A parsed address; null if it is none.
using ParsedUrl = std::unique_ptr<CURLU, decltype(&curl_url_cleanup)>;

ParsedUrl parse_url(const std::string& url) {
  ParsedUrl parsed(curl_url(), curl_url_cleanup);
  if (parsed && curl_url_set(parsed.get(), CURLUPART_URL, url.c_str(), 0) != CURLUE_OK) {
    parsed.reset();
  }
  return parsed;
}

std::string part_of(const ParsedUrl& url, CURLUPart part) {
  char* text = nullptr;
  const unsigned flags = part == CURLUPART_PORT ? CURLU_DEFAULT_PORT : 0;
  if (!url || curl_url_get(url.get(), part, &text, flags) != CURLUE_OK) return "";
  std::string copy = text;
  curl_free(text);
  return copy;
}

std::string lower_case(std::string text) {
  std::ranges::transform(text, text.begin(), [](char letter) {
    return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter - 'A' + 'a') : letter;
  });
  return text;
}

std::string scheme_of(const std::string& url) {
  return lower_case(part_of(parse_url(url), CURLUPART_SCHEME));
}

}  // namespace

bool looks_like_repository(std::string_view text) {
  return text.find('/') != std::string_view::npos;
}

Repository parse_repository(std::string_view text) {
  const std::size_t slash = text.find('/');
  const std::size_t at = std::min(text.find('@'), text.size());
  Repository repository;
  if (slash >= at) {
    refuse("model", "wanted a known name or OWNER/REPO[@REVISION], found '{}'", text);
  }
  repository.name = text.substr(0, at);
  if (at < text.size()) repository.revision = text.substr(at + 1);
  const bool has_names =
      is_name(text.substr(0, slash)) && is_name(text.substr(slash + 1, at - slash - 1));
  if (!has_names || !is_revision(repository.revision)) {
    refuse("model", "wanted a known name or OWNER/REPO[@REVISION], found '{}'", text);
  }
  return repository;
}

std::string file_url(std::string_view endpoint, const Repository& repository,
                     std::string_view path) {
  return fmt::format("{}/{}/resolve/{}/{}", endpoint, repository.name,
                     percent_encode(repository.revision, false), percent_encode(path, true));
}

std::string tree_url(std::string_view endpoint, const Repository& repository) {
  return fmt::format("{}/api/models/{}/tree/{}?recursive=true", endpoint, repository.name,
                     percent_encode(repository.revision, false));
}

std::string page_url(std::string_view endpoint, const Repository& repository) {
  return fmt::format("{}/{}", endpoint, repository.name);
}

bool same_origin(const std::string& a, const std::string& b) {
  const ParsedUrl first = parse_url(a);
  const ParsedUrl second = parse_url(b);
  if (!first || !second) return false;
  return std::ranges::all_of(std::array{CURLUPART_SCHEME, CURLUPART_HOST, CURLUPART_PORT},
                             [&](CURLUPart part) {
                               const std::string text = lower_case(part_of(first, part));
                               return !text.empty() && text == lower_case(part_of(second, part));
                             });
}

bool is_https(const std::string& url) { return scheme_of(url) == "https"; }

bool is_http(const std::string& url) { return scheme_of(url) == "http"; }

std::string shown_url(const std::string& url) {
  const ParsedUrl parsed = parse_url(url);
  if (!parsed) return "an address that cannot be parsed";
  for (const CURLUPart secret :
       {CURLUPART_QUERY, CURLUPART_FRAGMENT, CURLUPART_USER, CURLUPART_PASSWORD}) {
    curl_url_set(parsed.get(), secret, nullptr, 0);
  }
  return part_of(parsed, CURLUPART_URL);
}

}  // namespace mochi::hub
