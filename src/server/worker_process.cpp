#include <array>
#include <optional>
#include <span>
#include <utility>

#include "base/error.h"
#include "base/subprocess.h"
#include "server/worker.h"

namespace mochi::server {
namespace {

constexpr std::size_t kBlockBytes = 1 << 16;

class ProcessWorker final : public Worker {
 public:
  ProcessWorker(std::vector<std::string> command, WorkerEvents events, EventLoop& loop)
      : command_(std::move(command)), events_(std::move(events)), loop_(loop) {}
  ~ProcessWorker() override { leave(); }

  bool is_running() const override { return process_ != nullptr; }

  void start() override {
    if (process_) return;
    text_.clear();
    unsent_.clear();
    ends_after_sending_ = false;
    process_ = std::make_unique<Subprocess>(command_,
                                            SubprocessPipes{.to_stdin = true, .from_stdout = true});
    watched_ = process_->stdout_descriptor();
    loop_.watch(watched_, [this] { read(); });
  }

  void send(const Json& message) override {
    if (!process_) return;
    unsent_ += message.dump() + "\n";
    tick();
  }

  // A process that has ended takes nothing; the end of its output tells.
  void tick() override {
    if (!process_ || unsent_.empty()) return;
    try {
      unsent_.erase(0, process_->write_ready(std::as_bytes(std::span(unsent_))));
    } catch (const Error&) {
      process_->kill();
    }
    if (unsent_.empty() && ends_after_sending_) process_->close_stdin();
  }

  void end() override {
    ends_after_sending_ = true;
    if (process_ && unsent_.empty()) process_->close_stdin();
  }
  void kill() override {
    if (process_) process_->kill();
  }

 private:
  void read() {
    std::array<std::byte, kBlockBytes> bytes{};
    std::optional<std::size_t> num_bytes;
    try {
      num_bytes = process_->read_ready(bytes);
    } catch (const Error&) {
      num_bytes = 0;  // as at the end
    }
    if (!num_bytes) return;
    if (*num_bytes == 0) return report_end();
    tick();  // it may have read, too
    if (!process_) return;
    text_.append(reinterpret_cast<const char*>(bytes.data()), *num_bytes);
    std::size_t begin = 0;
    for (std::size_t end = 0; (end = text_.find('\n', begin)) != std::string::npos;
         begin = end + 1) {
      report_line(text_.substr(begin, end - begin));
    }
    text_.erase(0, begin);
  }

  // Lines of libraries, which are no messages, are passed over.
  void report_line(const std::string& line) {
    const Json message = Json::parse(line, nullptr, false);
    if (message.is_object() && message.contains("type")) events_.on_message(message);
  }

  void report_end() {
    if (!process_) return;
    loop_.unwatch(watched_);
    std::string reason;
    try {
      process_->wait();
      reason = process_->describe_end();
    } catch (const Error& error) {
      reason = error.what();
    }
    process_.reset();
    events_.on_end(reason);
  }

  void leave() {
    if (!process_) return;
    loop_.unwatch(watched_);
    process_.reset();
  }

  std::vector<std::string> command_;
  WorkerEvents events_;
  EventLoop& loop_;
  std::unique_ptr<Subprocess> process_;
  int watched_ = -1;  // the descriptor of its output
  std::string text_;  // the beginning of a line
  std::string unsent_;
  bool ends_after_sending_ = false;
};

}  // namespace

std::unique_ptr<Worker> make_process_worker(std::vector<std::string> command, WorkerEvents events,
                                            EventLoop& loop) {
  return std::make_unique<ProcessWorker>(std::move(command), std::move(events), loop);
}

}  // namespace mochi::server
