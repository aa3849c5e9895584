// HTTP requests to the hub, which can be interrupted and are repeated after passing failures.
#pragma once

#include <curl/curl.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "hub/observer.h"
#include "hub/repository.h"

namespace mochi::hub {

struct Settings {
  std::string endpoint = "https://huggingface.co";  // without a slash at the end
  std::string token;                                // empty: none
  std::string ca_file;  // certificates that are trusted; empty: libcurl's default
  int num_connections = 8;
  // A connection that brings almost nothing for so long is dropped.
  std::chrono::seconds stall_limit{30};
};

// Returns the file of trusted certificates if libcurl's default, which is that of the machine it
// was built on, does not exist here; empty if it does.
std::string find_ca_file();

// Headers of one response. Later lines of a name replace earlier ones.
class Headers {
 public:
  // Takes a line as it was received. A status line begins a new response.
  void add_line(std::string_view line);
  // Returns the value; empty if there is none. `name` is in lower case.
  std::string_view find(std::string_view name) const;

 private:
  std::map<std::string, std::string, std::less<>> values_;
};

// Returns a whole number of decimal digits; nothing for other texts.
std::optional<std::uint64_t> parse_number(std::string_view text);

// Returns the seconds that "Retry-After" states; nothing for a date or nonsense.
std::optional<std::chrono::seconds> parse_retry_after(std::string_view text);

// "bytes 0-99/1000", the answer to a request for a range.
struct ContentRange {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;  // one after the last byte
  std::optional<std::uint64_t> size;
};
std::optional<ContentRange> parse_content_range(std::string_view text);

// Returns the address of the next page that a "Link" header names; empty if there is none.
std::string parse_next_link(std::string_view text);

// Returns how long to wait before attempt `round` + 1, where `round` counts from 1: what the server
// wants, else twice as long each time. `jitter` from 0 to 1 keeps many clients apart.
std::chrono::milliseconds retry_delay(int round, std::optional<std::chrono::seconds> wanted,
                                      double jitter);
double random_jitter();

// Returns true for a status that may pass: too many requests, a fault of the server.
bool may_pass(long status);
// Returns true for a failure of the connection that another attempt may not have.
bool may_pass(CURLcode code);

// Returns a failure in words: curl's own, which name hosts and numbers but no secrets.
std::string describe_failure(CURLcode code, const char* details);
std::string describe_status(long status);

struct Response {
  long status = 0;
  Headers headers;
  std::string body;
  std::string redirect;  // where a 3xx leads
};

using EasyHandle = std::unique_ptr<CURL, decltype(&curl_easy_cleanup)>;
using MultiHandle = std::unique_ptr<CURLM, decltype(&curl_multi_cleanup)>;
EasyHandle make_easy_handle();
MultiHandle make_multi_handle();

class Client {
 public:
  // `observer` must outlive the client. Throws Error if the endpoint is no address.
  Client(Settings settings, Observer& observer);

  // Return the response of any status that does not pass. get() follows redirections. Throw Error
  // if attempts do not help, and Cancelled.
  Response get(const std::string& url);
  Response head(const std::string& url);

  // Prepares a handle for a request. The token is sent to the endpoint alone; redirections are not
  // followed.
  void prepare(CURL* handle, const std::string& url) const;
  // Throws Error unless a redirection from the endpoint may lead to this address.
  void check_redirect(const std::string& url) const;

  const Settings& settings() const { return settings_; }
  Observer& observer() const { return observer_; }
  void throw_if_stopped() const;

 private:
  Response request(const std::string& url, bool is_head);
  CURLcode perform(CURL* handle);
  void wait(std::chrono::milliseconds delay, const std::string& reason);

  Settings settings_;
  Observer& observer_;
  MultiHandle multi_;
};

// Throws Error that says why the hub refuses the repository or (unless empty) this file of it.
[[noreturn]] void fail_refused(const Settings& settings, const Repository& repository,
                               std::string_view path, long status, const Headers& headers);

}  // namespace mochi::hub
