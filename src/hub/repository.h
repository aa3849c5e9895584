// Repositories of the Hugging Face hub and the addresses of their files.
#pragma once

#include <string>
#include <string_view>

namespace mochi::hub {

struct Repository {
  std::string name;  // "genmo/mochi-1-preview"
  std::string revision = "main";

  bool operator==(const Repository&) const = default;
};

// Returns true for text that is meant to name a repository: it has a slash.
bool looks_like_repository(std::string_view text);

// "OWNER/REPO" or "OWNER/REPO@REVISION". Throws InvalidRequest("model") for other texts.
Repository parse_repository(std::string_view text);

// Returns the address of a file, {endpoint}/{name}/resolve/{revision}/{path}, with every part
// percent-encoded.
std::string file_url(std::string_view endpoint, const Repository& repository,
                     std::string_view path);
// Returns the address of the list of all files.
std::string tree_url(std::string_view endpoint, const Repository& repository);
// Returns the address of the page for people.
std::string page_url(std::string_view endpoint, const Repository& repository);

// Returns true if both addresses have one scheme, host and port. Addresses that cannot be parsed
// have no common origin.
bool same_origin(const std::string& a, const std::string& b);
// Returns true for an address of https, or of http.
bool is_https(const std::string& url);
bool is_http(const std::string& url);

// Returns the address without what follows '?' (a signature, perhaps) and without a user's name,
// for messages.
std::string shown_url(const std::string& url);

}  // namespace mochi::hub
