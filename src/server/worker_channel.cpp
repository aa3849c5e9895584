#include "server/worker_channel.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "base/error.h"

namespace mochi::server {
namespace {

constexpr std::size_t kReadBytes = 1 << 16;

FileDescriptor take_output() {
  FileDescriptor output(::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0));
  if (!output.is_open() || ::dup2(STDERR_FILENO, STDOUT_FILENO) < 0) {
    fail("cannot take over the standard streams: {}", describe_errno(errno));
  }
  return output;
}

}  // namespace

WorkerChannel::WorkerChannel() : output_(take_output()), reader_([this] { read_messages(); }) {}

// The server has closed its end, or the process is about to end: nobody else writes to stdin.
WorkerChannel::~WorkerChannel() {
  if (reader_.joinable()) reader_.join();
}

void WorkerChannel::read_messages() {
  std::string text;
  std::array<char, kReadBytes> block{};
  for (;;) {
    const ssize_t num_read = ::read(STDIN_FILENO, block.data(), block.size());
    if (num_read < 0 && errno == EINTR) continue;
    if (num_read <= 0) break;
    text.append(block.data(), static_cast<std::size_t>(num_read));
    std::size_t begin = 0;
    for (std::size_t end = 0; (end = text.find('\n', begin)) != std::string::npos;
         begin = end + 1) {
      take(text.substr(begin, end - begin));
    }
    text.erase(0, begin);
  }
  const std::lock_guard lock(mutex_);
  should_stop_ = true;  // a server that is done with its worker waits for the video's end
  has_ended_ = true;
  has_changed_.notify_all();
}

void WorkerChannel::take(const std::string& line) {
  Json message = Json::parse(line, nullptr, false);
  const std::string type = message.is_object() ? message.value("type", "") : "";
  const std::lock_guard lock(mutex_);
  if (type == "stop") should_stop_ = true;
  if (type != "run") return;
  should_stop_ = false;
  runs_.push_back(std::move(message));
  has_changed_.notify_all();
}

std::optional<Json> WorkerChannel::next_run() {
  std::unique_lock lock(mutex_);
  has_changed_.wait(lock, [this] { return has_ended_ || !runs_.empty(); });
  if (runs_.empty()) return std::nullopt;
  Json message = std::move(runs_.front());
  runs_.pop_front();
  return message;
}

void WorkerChannel::send(const nlohmann::ordered_json& message) {
  const std::string text =
      message.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  std::string_view left = text;
  while (!left.empty()) {
    const ssize_t num_written = ::write(output_.get(), left.data(), left.size());
    if (num_written < 0 && errno == EINTR) continue;
    if (num_written <= 0) fail("the server is gone: {}", describe_errno(errno));
    left.remove_prefix(static_cast<std::size_t>(num_written));
  }
}

}  // namespace mochi::server
