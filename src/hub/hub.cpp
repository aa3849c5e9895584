#include "hub/hub.h"

#include <iterator>
#include <set>
#include <utility>

#include "base/error.h"
#include "hub/sha256.h"

namespace mochi::hub {
namespace {

constexpr int kMaxMoves = 5;
constexpr int kMaxPages = 1000;

bool is_success(long status) {
  constexpr long kOk = 200;
  constexpr long kRedirect = 300;
  return status >= kOk && status < kRedirect;
}

bool is_weak(std::string_view etag) { return etag.starts_with("W/"); }

// W/"abc" and "abc" name one version of a file.
std::string bare_etag(std::string_view etag) {
  if (is_weak(etag)) etag.remove_prefix(2);
  if (etag.size() >= 2 && etag.starts_with('"') && etag.ends_with('"')) {
    etag = etag.substr(1, etag.size() - 2);
  }
  return std::string(etag);
}

Location read_location(const Response& response, const std::string& url, bool is_elsewhere) {
  const Headers& headers = response.headers;
  const std::string_view linked_etag = headers.find("x-linked-etag");
  const std::string_view own_etag = headers.find("etag");
  Location location;
  location.url = url;
  location.is_elsewhere = is_elsewhere;
  location.etag = bare_etag(linked_etag.empty() ? own_etag : linked_etag);
  if (!is_elsewhere && !is_weak(own_etag)) location.served_etag = own_etag;
  // A redirection has a body of its own, whose length is not the file's.
  location.size = parse_number(headers.find("x-linked-size"));
  if (!location.size && !is_elsewhere) location.size = parse_number(headers.find("content-length"));
  if (is_sha256(location.etag)) location.sha256 = location.etag;
  return location;
}

}  // namespace

std::vector<RemoteFile> list_files(Client& client, const Repository& repository) {
  std::vector<RemoteFile> files;
  const std::string source = fmt::format("the list of files of '{}'", repository.name);
  std::string url = tree_url(client.settings().endpoint, repository);
  for (int page = 0; !url.empty(); ++page) {
    if (page == kMaxPages) fail("{} has more than {} pages", source, kMaxPages);
    const Response response = client.get(url);
    if (!is_success(response.status)) {
      fail_refused(client.settings(), repository, "", response.status, response.headers);
    }
    std::vector<RemoteFile> more = parse_listing(response.body, source);
    files.insert(files.end(), std::move_iterator(more.begin()), std::move_iterator(more.end()));
    url = parse_next_link(response.headers.find("link"));
    if (!url.empty()) client.check_redirect(url);
  }
  check_names(files, source);
  return files;
}

Location locate(Client& client, const Repository& repository, const std::string& path) {
  const std::string& endpoint = client.settings().endpoint;
  std::string url = file_url(endpoint, repository, path);
  for (int num_moves = 0; num_moves <= kMaxMoves; ++num_moves) {
    const Response response = client.head(url);
    if (is_success(response.status)) return read_location(response, url, false);
    if (response.redirect.empty()) {
      fail_refused(client.settings(), repository, path, response.status, response.headers);
    }
    client.check_redirect(response.redirect);
    url = response.redirect;
    if (!same_origin(url, endpoint)) return read_location(response, url, true);
  }
  fail("{}: more than {} redirections", shown_url(url), kMaxMoves);
}

}  // namespace mochi::hub
