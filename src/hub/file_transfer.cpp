#include "hub/file_transfer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <new>
#include <span>
#include <utility>

#include "base/error.h"

namespace mochi::hub {

namespace {

using std::chrono::milliseconds;

constexpr std::uint64_t kMebibyte = std::uint64_t{1} << 20;
constexpr int kTransferPollMs = 100;
constexpr long kReceiveBytes = 256L << 10;
constexpr int kMaxFailures = 8;
constexpr int kMaxFollowed = 5;

enum Status : long {
  kOk = 200,
  kPartialContent = 206,
  kFirstRedirect = 300,
  kFirstRefusal = 400,
  kUnauthorized = 401,
  kForbidden = 403,
  kNotFound = 404,
  kGone = 410,
  kPreconditionFailed = 412,
  kRangeNotSatisfiable = 416,
};

long status_of(CURL* handle) {
  long status = 0;
  curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status);
  return status;
}

bool is_strong(std::string_view etag) { return !etag.empty() && !etag.starts_with("W/"); }

}  // namespace

// The use that a response has, known when its headers are.
enum class FileTransfer::Verdict : std::uint8_t {
  kUnknown,
  kGood,
  kOtherVersion,
  kNotTheFile,  // a status that is no success
  kWrongRange,
  kSuperfluous,  // another connection fetches the whole file
};

struct FileTransfer::Connection {
  explicit Connection(FileTransfer& owner) : transfer(&owner) {}

  FileTransfer* transfer;
  EasyHandle handle = make_easy_handle();
  curl_slist* request_headers = nullptr;
  std::array<char, CURL_ERROR_SIZE> details{};
  std::string url;
  ByteRange segment;           // to be stored; its begin moves as bytes arrive
  std::uint64_t position = 0;  // the next byte of the response
  Headers headers;
  Verdict verdict = Verdict::kUnknown;
  std::exception_ptr error;  // thrown while the response was stored
  bool is_running = false;
};

std::uint64_t segment_bytes(std::uint64_t num_left, int num_connections) {
  constexpr std::uint64_t kLeast = 4 * kMebibyte;
  constexpr std::uint64_t kMost = 64 * kMebibyte;
  const auto num_parts = static_cast<std::uint64_t>(2 * std::max(num_connections, 1));
  return std::clamp(num_left / num_parts, kLeast, kMost);
}

FileTransfer::FileTransfer(Client& client, Repository repository, std::string name,
                           Location& location, PartFile& part, std::function<void()> on_progress)
    : client_(client),
      repository_(std::move(repository)),
      name_(std::move(name)),
      location_(location),
      part_(part),
      on_progress_(std::move(on_progress)),
      multi_(make_multi_handle()),
      pending_(part.done().gaps(part.size())) {
  for (int i = 0; i < client.settings().num_connections; ++i) {
    connections_.push_back(std::make_unique<Connection>(*this));
  }
}

FileTransfer::~FileTransfer() { stop_all(); }

FileTransfer::End FileTransfer::run() {
  while (!part_.is_complete() && end_ == End::kComplete) {
    client_.throw_if_stopped();
    // Connections that are idle get work before the wait, which then ends at once.
    start_connections();
    curl_multi_poll(multi_.get(), nullptr, 0, kTransferPollMs, nullptr);
    int num_running = 0;
    curl_multi_perform(multi_.get(), &num_running);
    finish_ended();
    on_progress_();
  }
  stop_all();
  return end_;
}

void FileTransfer::start_connections() {
  if (Clock::now() < pause_until_) return;
  for (const auto& connection : connections_) {
    if (pending_.empty()) return;
    if (!connection->is_running) start(*connection);
  }
}

void FileTransfer::start(Connection& connection) {
  connection.segment = take_segment();
  connection.position = connection.segment.begin;
  connection.headers = {};
  connection.verdict = Verdict::kUnknown;
  connection.details = {};
  connection.url = location_.url;
  CURL* const handle = connection.handle.get();
  client_.prepare(handle, connection.url);
  curl_easy_setopt(handle, CURLOPT_PRIVATE, &connection);
  curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, connection.details.data());
  curl_easy_setopt(handle, CURLOPT_BUFFERSIZE, kReceiveBytes);
  curl_easy_setopt(handle, CURLOPT_HEADERFUNCTION, &on_header);
  curl_easy_setopt(handle, CURLOPT_HEADERDATA, &connection);
  curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, &on_body);
  curl_easy_setopt(handle, CURLOPT_WRITEDATA, &connection);
  if (!is_sequential_) {
    const std::string range =
        fmt::format("{}-{}", connection.segment.begin, connection.segment.end - 1);
    curl_easy_setopt(handle, CURLOPT_RANGE, range.c_str());
    curl_slist_free_all(std::exchange(connection.request_headers, nullptr));
    if (is_strong(location_.served_etag)) {
      const std::string header = "If-Range: " + location_.served_etag;
      connection.request_headers = curl_slist_append(nullptr, header.c_str());
      curl_easy_setopt(handle, CURLOPT_HTTPHEADER, connection.request_headers);
    }
  }
  if (curl_multi_add_handle(multi_.get(), handle) != CURLM_OK) throw std::bad_alloc();
  connection.is_running = true;
}

void FileTransfer::stop_all() noexcept {
  for (const auto& connection : connections_) {
    if (std::exchange(connection->is_running, false)) {
      curl_multi_remove_handle(multi_.get(), connection->handle.get());
    }
    curl_slist_free_all(std::exchange(connection->request_headers, nullptr));
  }
}

ByteRange FileTransfer::take_segment() {
  ByteRange& first = pending_.front();
  ByteRange segment = first;
  if (!is_sequential_) {
    std::uint64_t num_left = 0;
    for (const ByteRange& range : pending_) num_left += range.size();
    const std::uint64_t most = segment_bytes(num_left, client_.settings().num_connections);
    segment.end = std::min(segment.end, segment.begin + most);
  }
  first.begin = segment.end;
  if (first.size() == 0) pending_.erase(pending_.begin());
  return segment;
}

void FileTransfer::put_back(ByteRange segment) {
  if (is_sequential_) {
    pending_ = {{part_.done().prefix_end(), part_.size()}};
  } else if (segment.size() > 0) {
    pending_.insert(std::ranges::lower_bound(pending_, segment.begin, {}, &ByteRange::begin),
                    segment);
  }
}

std::size_t FileTransfer::on_header(const char* data, std::size_t /*one*/, std::size_t size,
                                    void* user) {
  auto& connection = *static_cast<Connection*>(user);
  try {
    connection.headers.add_line({data, size});
  } catch (...) {
    connection.error = std::current_exception();
    return 0;
  }
  return size;
}

std::size_t FileTransfer::on_body(const char* data, std::size_t /*one*/, std::size_t size,
                                  void* user) {
  auto& connection = *static_cast<Connection*>(user);
  try {
    FileTransfer& transfer = *connection.transfer;
    if (connection.verdict == Verdict::kUnknown) connection.verdict = transfer.judge(connection);
    const auto bytes = std::as_bytes(std::span(data, size));
    const bool goes_on = connection.verdict == Verdict::kGood && transfer.store(connection, bytes);
    return goes_on ? size : 0;
  } catch (...) {
    connection.error = std::current_exception();
    return 0;
  }
}

// Returns false after the last wanted byte.
bool FileTransfer::store(Connection& connection, std::span<const std::byte> bytes) {
  const ByteRange received{connection.position, connection.position + bytes.size()};
  connection.position = received.end;
  const std::uint64_t begin = std::max(received.begin, connection.segment.begin);
  const std::uint64_t end = std::min(received.end, connection.segment.end);
  if (begin < end) {
    part_.write(begin, bytes.subspan(begin - received.begin, end - begin));
    connection.segment.begin = end;
    num_fetched_ += end - begin;
    num_failures_ = 0;
    num_redirects_ = 0;
  }
  return received.end <= connection.segment.end;
}

FileTransfer::Verdict FileTransfer::judge(Connection& connection) {
  switch (status_of(connection.handle.get())) {
    case kPartialContent:
      return judge_range(connection);
    case kOk:
      return judge_whole(connection);
    default:
      return Verdict::kNotTheFile;
  }
}

FileTransfer::Verdict FileTransfer::judge_range(Connection& connection) {
  const auto range = parse_content_range(connection.headers.find("content-range"));
  if (!range || range->begin != connection.segment.begin) return Verdict::kWrongRange;
  if (range->size && *range->size != part_.size()) return Verdict::kOtherVersion;
  if (is_other_version(connection.headers.find("etag"))) return Verdict::kOtherVersion;
  return Verdict::kGood;
}

// The whole file although a range of it was wanted: the server has another version, or it ignores
// ranges. Then one connection fetches everything.
FileTransfer::Verdict FileTransfer::judge_whole(Connection& connection) {
  if (is_other_version(connection.headers.find("etag"))) return Verdict::kOtherVersion;
  const std::string_view length = connection.headers.find("content-length");
  if (!length.empty() && length != fmt::to_string(part_.size())) return Verdict::kOtherVersion;
  const bool is_first_to_know = !std::exchange(is_sequential_, true);
  const auto num_running = std::ranges::count_if(connections_, &Connection::is_running);
  if (!is_first_to_know && num_running > 1) return Verdict::kSuperfluous;
  pending_.clear();
  connection.segment = {part_.done().prefix_end(), part_.size()};
  connection.position = 0;
  return Verdict::kGood;
}

bool FileTransfer::is_other_version(std::string_view etag) {
  if (!is_strong(etag)) return false;
  if (location_.served_etag.empty()) location_.served_etag = etag;
  return location_.served_etag != etag;
}

void FileTransfer::finish_ended() {
  int num_left = 0;
  while (const CURLMsg* message = curl_multi_info_read(multi_.get(), &num_left)) {
    if (message->msg != CURLMSG_DONE) continue;
    void* user = nullptr;
    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &user);
    const CURLcode code = message->data.result;
    curl_multi_remove_handle(multi_.get(), message->easy_handle);
    finish(*static_cast<Connection*>(user), code);
  }
}

void FileTransfer::finish(Connection& connection, CURLcode code) {
  connection.is_running = false;
  if (connection.error) std::rethrow_exception(std::exchange(connection.error, nullptr));
  if (connection.verdict == Verdict::kUnknown && code == CURLE_OK) {
    connection.verdict = judge(connection);
  }
  if (connection.verdict == Verdict::kSuperfluous) return;
  if (connection.verdict == Verdict::kGood && connection.segment.size() == 0) return;
  put_back(connection.segment);
  switch (connection.verdict) {
    case Verdict::kOtherVersion:
      end_ = End::kChanged;
      return;
    case Verdict::kNotTheFile:
      return handle_status(connection);
    case Verdict::kWrongRange:
      return note_failure("the server answers with another range", std::nullopt);
    default:
      break;
  }
  // A response of fewer bytes than were wanted is a cut connection.
  if (code == CURLE_OK) code = CURLE_PARTIAL_FILE;
  const std::string problem = describe_failure(code, connection.details.data());
  if (!may_pass(code)) fail("'{}': {}: {}", name_, shown_url(connection.url), problem);
  note_failure(problem, std::nullopt);
}

void FileTransfer::handle_status(Connection& connection) {
  const long status = status_of(connection.handle.get());
  if (connection.url != location_.url) return;  // the next attempt uses the new address
  if (status >= kFirstRedirect && status < kFirstRefusal) return follow(connection);
  if (status == kPreconditionFailed || status == kRangeNotSatisfiable) {
    end_ = End::kChanged;
    return;
  }
  const bool is_refusal =
      status == kUnauthorized || status == kForbidden || status == kNotFound || status == kGone;
  if (is_refusal && location_.is_elsewhere) {
    end_ = End::kExpired;
    return;
  }
  if (!may_pass(status)) {
    fail_refused(client_.settings(), repository_, name_, status, connection.headers);
  }
  note_failure(describe_status(status), parse_retry_after(connection.headers.find("retry-after")));
}

void FileTransfer::follow(const Connection& connection) {
  char* redirect = nullptr;
  curl_easy_getinfo(connection.handle.get(), CURLINFO_REDIRECT_URL, &redirect);
  if (redirect == nullptr || ++num_redirects_ > kMaxFollowed) {
    fail("'{}': {}: more than {} redirections, or one that leads nowhere", name_,
         shown_url(connection.url), kMaxFollowed);
  }
  client_.check_redirect(redirect);
  if (!same_origin(redirect, location_.url)) location_.served_etag.clear();
  location_.url = redirect;
  location_.is_elsewhere = !same_origin(redirect, client_.settings().endpoint);
}

// Failures of several connections within one pause count as one.
void FileTransfer::note_failure(const std::string& problem,
                                std::optional<std::chrono::seconds> wanted_wait) {
  const Clock::time_point now = Clock::now();
  if (now < pause_until_) return;
  if (++num_failures_ > kMaxFailures) {
    fail("'{}': {}; {} attempts in a row have failed", name_, problem, kMaxFailures);
  }
  const milliseconds delay = retry_delay(num_failures_, wanted_wait, random_jitter());
  pause_until_ = now + delay;
  constexpr milliseconds kWorthTelling{2000};
  if (delay < kWorthTelling) return;
  client_.observer().on_note(fmt::format("{}: {}; waiting {:.0f} s", name_, problem,
                                         std::chrono::duration<double>(delay).count()));
}

}  // namespace mochi::hub
