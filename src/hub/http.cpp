#include "hub/http.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <limits>
#include <new>
#include <random>
#include <system_error>
#include <utility>

#include "base/error.h"

namespace mochi::hub {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr int kNumAttempts = 6;
constexpr int kMaxRedirects = 5;
constexpr long kConnectSeconds = 30;
constexpr long kLeastBytesPerSecond = 1024;
constexpr int kPollMs = 100;
constexpr std::size_t kMaxBodyBytes = std::size_t{64} << 20;

std::string_view trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const std::size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

std::string lower_case_name(std::string_view text) {
  std::string name(text);
  std::ranges::transform(name, name.begin(), [](char letter) {
    return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter - 'A' + 'a') : letter;
  });
  return name;
}

// Libcurl's global state.
class CurlLibrary {
 public:
  CurlLibrary() {
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) fail("libcurl cannot be initialised");
  }
  ~CurlLibrary() { curl_global_cleanup(); }
  CurlLibrary(const CurlLibrary&) = delete;
  CurlLibrary& operator=(const CurlLibrary&) = delete;
};

void use_library() { static const CurlLibrary s_library; }

template <typename T>
void set(CURL* handle, CURLoption option, T value) {
  const CURLcode code = curl_easy_setopt(handle, option, value);
  if (code == CURLE_OUT_OF_MEMORY) throw std::bad_alloc();
  if (code != CURLE_OK) fail("libcurl: {}", curl_easy_strerror(code));
}

// C callbacks, which must not throw, collect a response here.
struct Collector {
  Response response;
  bool is_too_long = false;
  bool is_out_of_memory = false;
};

std::size_t collect_body(const char* data, std::size_t /*one*/, std::size_t size, void* user) {
  auto& collector = *static_cast<Collector*>(user);
  collector.is_too_long = collector.response.body.size() + size > kMaxBodyBytes;
  if (collector.is_too_long) return 0;
  try {
    collector.response.body.append(data, size);
  } catch (...) {
    collector.is_out_of_memory = true;
    return 0;
  }
  return size;
}

std::size_t collect_header(const char* data, std::size_t /*one*/, std::size_t size, void* user) {
  auto& collector = *static_cast<Collector*>(user);
  try {
    collector.response.headers.add_line({data, size});
  } catch (...) {
    collector.is_out_of_memory = true;
    return 0;
  }
  return size;
}

}  // namespace

std::string find_ca_file() {
  constexpr std::array kUsualPlaces{"/etc/ssl/certs/ca-certificates.crt",
                                    "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
                                    "/etc/ssl/cert.pem"};
  std::error_code ignored;
  const char* const built_in = curl_version_info(CURLVERSION_NOW)->cainfo;
  if (built_in != nullptr && std::filesystem::exists(built_in, ignored)) return "";
  for (const char* const place : kUsualPlaces) {
    if (std::filesystem::exists(place, ignored)) return place;
  }
  return "";
}

void Headers::add_line(std::string_view line) {
  constexpr std::string_view kStatus = "HTTP/";
  if (line.starts_with(kStatus)) return values_.clear();
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos) return;
  values_[lower_case_name(trim(line.substr(0, colon)))] = trim(line.substr(colon + 1));
}

std::string_view Headers::find(std::string_view name) const {
  const auto found = values_.find(name);
  return found == values_.end() ? std::string_view() : std::string_view(found->second);
}

std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::optional<seconds> parse_retry_after(std::string_view text) {
  constexpr std::uint64_t kMostSeconds = 3600;
  const std::optional<std::uint64_t> number = parse_number(text);
  if (!number) return std::nullopt;
  return seconds(std::min(*number, kMostSeconds));
}

std::optional<ContentRange> parse_content_range(std::string_view text) {
  constexpr std::string_view kUnit = "bytes ";
  const std::size_t dash = text.find('-');
  const std::size_t slash = text.find('/');
  if (!text.starts_with(kUnit) || dash > slash || slash == std::string_view::npos) {
    return std::nullopt;
  }
  const auto begin = parse_number(text.substr(kUnit.size(), dash - kUnit.size()));
  const auto last = parse_number(text.substr(dash + 1, slash - dash - 1));
  const auto size = parse_number(text.substr(slash + 1));
  constexpr auto kLargest = std::numeric_limits<std::uint64_t>::max();
  if (!begin || !last || *begin > *last || *last == kLargest ||
      (!size && text.substr(slash + 1) != "*")) {
    return std::nullopt;
  }
  return ContentRange{*begin, *last + 1, size};
}

std::string parse_next_link(std::string_view text) {
  while (!text.empty()) {
    const std::size_t open = text.find('<');
    const std::size_t close = text.find('>', open);
    if (close == std::string_view::npos) return "";
    const std::size_t comma = std::min(text.find(',', close), text.size());
    if (text.substr(close, comma - close).find("rel=\"next\"") != std::string_view::npos) {
      return std::string(text.substr(open + 1, close - open - 1));
    }
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return "";
}

milliseconds retry_delay(int round, std::optional<seconds> wanted, double jitter) {
  constexpr milliseconds kFirst{200};
  constexpr milliseconds kLongest{30'000};
  constexpr int kMostDoublings = 8;
  const milliseconds delay =
      std::min(kFirst * (1 << std::clamp(round - 1, 0, kMostDoublings)), kLongest);
  if (wanted) return std::max<milliseconds>(*wanted, kFirst);
  return delay +
         milliseconds(static_cast<std::int64_t>(jitter * static_cast<double>(delay.count())));
}

double random_jitter() {
  static std::minstd_rand s_random(std::random_device{}());
  return std::uniform_real_distribution<double>(0, 1)(s_random);
}

bool may_pass(long status) {
  constexpr long kTimeout = 408;
  constexpr long kTooManyRequests = 429;
  constexpr long kFirstServerFault = 500;
  constexpr long kNotImplemented = 501;
  return status == kTimeout || status == kTooManyRequests ||
         (status >= kFirstServerFault && status != kNotImplemented);
}

bool may_pass(CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_HTTP2:
    case CURLE_PARTIAL_FILE:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
      return true;
    default:
      return false;
  }
}

std::string describe_failure(CURLcode code, const char* details) {
  if (code == CURLE_OPERATION_TIMEDOUT) return "the connection stalled";
  if (code == CURLE_PARTIAL_FILE) return "the connection was cut";
  const std::string_view text = trim(details);
  return std::string(text.empty() ? std::string_view(curl_easy_strerror(code)) : text);
}

std::string describe_status(long status) { return fmt::format("the server answers {}", status); }

EasyHandle make_easy_handle() {
  use_library();
  EasyHandle handle(curl_easy_init(), curl_easy_cleanup);
  if (!handle) throw std::bad_alloc();
  return handle;
}

MultiHandle make_multi_handle() {
  use_library();
  MultiHandle handle(curl_multi_init(), curl_multi_cleanup);
  if (!handle) throw std::bad_alloc();
  return handle;
}

Client::Client(Settings settings, Observer& observer)
    : settings_(std::move(settings)), observer_(observer), multi_(make_multi_handle()) {
  while (settings_.endpoint.ends_with('/')) settings_.endpoint.pop_back();
  if (!is_https(settings_.endpoint) && !is_http(settings_.endpoint)) {
    fail("the hub's address '{}': wanted one that begins with https://", settings_.endpoint);
  }
}

void Client::throw_if_stopped() const {
  if (observer_.should_stop()) throw Cancelled();
}

void Client::prepare(CURL* handle, const std::string& url) const {
  curl_easy_reset(handle);
  set(handle, CURLOPT_URL, url.c_str());
  set(handle, CURLOPT_PROTOCOLS_STR, "http,https");
  set(handle, CURLOPT_FOLLOWLOCATION, 0L);
  set(handle, CURLOPT_NOSIGNAL, 1L);
  set(handle, CURLOPT_SSL_VERIFYPEER, 1L);
  set(handle, CURLOPT_SSL_VERIFYHOST, 2L);
  if (!settings_.ca_file.empty()) set(handle, CURLOPT_CAINFO, settings_.ca_file.c_str());
  set(handle, CURLOPT_USERAGENT, "mochi.cpp");
  // Separate connections for separate requests, which HTTP/2 would send over one.
  set(handle, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  set(handle, CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
  set(handle, CURLOPT_LOW_SPEED_LIMIT, kLeastBytesPerSecond);
  set(handle, CURLOPT_LOW_SPEED_TIME, static_cast<long>(settings_.stall_limit.count()));
  if (!settings_.token.empty() && same_origin(url, settings_.endpoint)) {
    set(handle, CURLOPT_HTTPAUTH, static_cast<long>(CURLAUTH_BEARER));
    set(handle, CURLOPT_XOAUTH2_BEARER, settings_.token.c_str());
  }
}

void Client::check_redirect(const std::string& url) const {
  if (is_https(url)) return;
  if (is_http(url) && is_http(settings_.endpoint)) return;
  fail("{} redirects to {}, which is not https", shown_url(settings_.endpoint), shown_url(url));
}

CURLcode Client::perform(CURL* handle) {
  curl_multi_add_handle(multi_.get(), handle);
  const auto remove = [this](CURL* added) { curl_multi_remove_handle(multi_.get(), added); };
  const std::unique_ptr<CURL, decltype(remove)> added(handle, remove);
  for (;;) {
    throw_if_stopped();
    int num_running = 0;
    curl_multi_perform(multi_.get(), &num_running);
    int num_left = 0;
    if (const CURLMsg* message = curl_multi_info_read(multi_.get(), &num_left)) {
      return message->data.result;
    }
    curl_multi_poll(multi_.get(), nullptr, 0, kPollMs, nullptr);
  }
}

void Client::wait(milliseconds delay, const std::string& reason) {
  constexpr milliseconds kWorthTelling{2000};
  if (delay >= kWorthTelling) {
    const auto shown = std::chrono::duration<double>(delay).count();
    observer_.on_note(fmt::format("{}; waiting {:.0f} s", reason, shown));
  }
  const auto end = std::chrono::steady_clock::now() + delay;
  while (std::chrono::steady_clock::now() < end) {
    throw_if_stopped();
    ::poll(nullptr, 0, kPollMs / 2);
  }
}

Response Client::request(const std::string& url, bool is_head) {
  std::string problem;
  const EasyHandle handle = make_easy_handle();
  for (int attempt = 1;; ++attempt) {
    Collector collector;
    std::array<char, CURL_ERROR_SIZE> details{};
    prepare(handle.get(), url);
    set(handle.get(), CURLOPT_ERRORBUFFER, details.data());
    set(handle.get(), CURLOPT_NOBODY, is_head ? 1L : 0L);
    set(handle.get(), CURLOPT_WRITEFUNCTION, &collect_body);
    set(handle.get(), CURLOPT_WRITEDATA, &collector);
    set(handle.get(), CURLOPT_HEADERFUNCTION, &collect_header);
    set(handle.get(), CURLOPT_HEADERDATA, &collector);
    const CURLcode code = perform(handle.get());
    if (collector.is_out_of_memory) throw std::bad_alloc();
    if (collector.is_too_long) {
      fail("{}: the answer is longer than {} bytes", shown_url(url), kMaxBodyBytes);
    }
    Response response = std::move(collector.response);
    curl_easy_getinfo(handle.get(), CURLINFO_RESPONSE_CODE, &response.status);
    if (code == CURLE_OK && !may_pass(response.status)) {
      char* redirect = nullptr;
      curl_easy_getinfo(handle.get(), CURLINFO_REDIRECT_URL, &redirect);
      if (redirect != nullptr) response.redirect = redirect;
      return response;
    }
    problem = code == CURLE_OK ? describe_status(response.status)
                               : describe_failure(code, details.data());
    const bool is_final = code != CURLE_OK && !may_pass(code);
    if (is_final || attempt == kNumAttempts) fail("{}: {}", shown_url(url), problem);
    const auto wanted = parse_retry_after(response.headers.find("retry-after"));
    wait(retry_delay(attempt, wanted, random_jitter()),
         fmt::format("{}: {}", shown_url(url), problem));
  }
}

Response Client::get(const std::string& url) {
  std::string address = url;
  for (int num_redirects = 0; num_redirects <= kMaxRedirects; ++num_redirects) {
    Response response = request(address, false);
    if (response.redirect.empty()) return response;
    check_redirect(response.redirect);
    address = response.redirect;
  }
  fail("{}: more than {} redirections", shown_url(url), kMaxRedirects);
}

Response Client::head(const std::string& url) { return request(url, true); }

void fail_refused(const Settings& settings, const Repository& repository, std::string_view path,
                  long status, const Headers& headers) {
  const std::string_view code = headers.find("x-error-code");
  const std::string page = shown_url(page_url(settings.endpoint, repository));
  constexpr long kUnauthorized = 401;
  constexpr long kForbidden = 403;
  constexpr long kNotFound = 404;
  if (code == "RevisionNotFound") {
    fail("repository '{}' has no revision '{}'", repository.name, repository.revision);
  }
  if (code == "EntryNotFound" || (status == kNotFound && !path.empty() && code.empty())) {
    fail("repository '{}' has no file '{}' in revision '{}'", repository.name, path,
         repository.revision);
  }
  if (code == "RepoNotFound" || status == kNotFound) {
    fail("repository '{}' does not exist at {}, or is private{}", repository.name,
         shown_url(settings.endpoint),
         settings.token.empty() ? " (then a token in HF_TOKEN is needed)" : "");
  }
  if (status == kUnauthorized || status == kForbidden) {
    fail("repository '{}' is gated or private: accept its terms at {}, and {}", repository.name,
         page,
         settings.token.empty()
             ? "set HF_TOKEN to a token of that account"
             : "check that the token belongs to that account and may read gated repositories");
  }
  fail("repository '{}'{}{}: {}", repository.name, path.empty() ? "" : ", file ", path,
       describe_status(status));
}

}  // namespace mochi::hub
