#include "cli/hub_environment.h"

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/text_file.h"
#include "flags/flag_value.h"

namespace mochi::cli {
namespace {

namespace fs = std::filesystem;

// Returns the value of a variable; empty if it is not set.
std::string variable(const char* name) {
  const char* const value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): never set here
  return value == nullptr ? "" : value;
}

fs::path hub_folder() {
  if (const std::string folder = variable("HF_HOME"); !folder.empty()) return folder;
  if (const std::string cache = variable("XDG_CACHE_HOME"); !cache.empty()) {
    return fs::path(cache) / "huggingface";
  }
  const std::string home = variable("HOME");
  return home.empty() ? fs::path() : fs::path(home) / ".cache" / "huggingface";
}

std::string trim(std::string text) {
  constexpr const char* kSpace = " \t\r\n";
  text.erase(text.find_last_not_of(kSpace) + 1);
  text.erase(0, std::min(text.find_first_not_of(kSpace), text.size()));
  return text;
}

// A line break would end the header that carries the token.
void check_token(const std::string& token, const std::string& source) {
  const bool is_plain =
      std::ranges::all_of(token, [](char letter) { return letter > ' ' && letter < '\x7f'; });
  if (!is_plain) fail("{}: wanted a token, found spaces or control characters", source);
}

std::string read_token() {
  if (const std::string token = trim(variable("HF_TOKEN")); !token.empty()) {
    check_token(token, "HF_TOKEN");
    return token;
  }
  constexpr std::size_t kMaxBytes = 4096;
  const fs::path path = hub_folder() / "token";
  std::error_code ignored;
  if (!path.is_absolute() || !fs::is_regular_file(path, ignored)) return "";
  const std::string token = trim(read_text_file(path, kMaxBytes));
  check_token(token, "'" + path.string() + "'");
  return token;
}

std::string read_ca_file() {
  for (const char* name : {"CURL_CA_BUNDLE", "SSL_CERT_FILE"}) {
    if (std::string file = variable(name); !file.empty()) return file;
  }
  return hub::find_ca_file();
}

}  // namespace

hub::Settings read_hub_environment() {
  hub::Settings settings;
  if (const std::string endpoint = variable("HF_ENDPOINT"); !endpoint.empty()) {
    settings.endpoint = endpoint;
  }
  settings.token = read_token();
  settings.ca_file = read_ca_file();
  if (const std::string timeout = variable("HF_HUB_DOWNLOAD_TIMEOUT"); !timeout.empty()) {
    constexpr std::uint64_t kMostSeconds = 86'400;
    const auto seconds = flags::parse_unsigned(timeout);
    if (!seconds || *seconds == 0 || *seconds > kMostSeconds) {
      fail("HF_HUB_DOWNLOAD_TIMEOUT: wanted seconds from 1 to {}, found '{}'", kMostSeconds,
           timeout);
    }
    settings.stall_limit = std::chrono::seconds(*seconds);
  }
  return settings;
}

void check_online() {
  std::string value = variable("HF_HUB_OFFLINE");
  std::ranges::transform(value, value.begin(), [](unsigned char letter) {
    return static_cast<char>(std::toupper(letter));
  });
  if (value == "1" || value == "ON" || value == "YES" || value == "TRUE") {
    fail("HF_HUB_OFFLINE is set, so nothing is requested from the hub; unset it to download");
  }
}

}  // namespace mochi::cli
