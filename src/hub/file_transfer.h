// Brings the missing bytes of one file over several connections, each of which fetches one range
// after another.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hub/http.h"
#include "hub/hub.h"
#include "hub/part_file.h"

namespace mochi::hub {

// Returns the size of the next range: small enough that all connections are busy to the end, large
// enough that requests cost little.
std::uint64_t segment_bytes(std::uint64_t num_left, int num_connections);

class FileTransfer {
 public:
  enum class End : std::uint8_t {
    kComplete,
    kChanged,  // the server has another version than the part
    kExpired,  // the address is not valid any more
  };

  // `name` is the file in messages. `on_progress` is called about ten times a second or more often.
  // All references must outlive the transfer.
  FileTransfer(Client& client, Repository repository, std::string name, Location& location,
               PartFile& part, std::function<void()> on_progress);
  ~FileTransfer();
  FileTransfer(const FileTransfer&) = delete;
  FileTransfer& operator=(const FileTransfer&) = delete;

  // Throws Error if the server refuses the file, if attempts do not help, or if the disk is full;
  // Cancelled.
  End run();
  // Returns the number of bytes that run() has received.
  std::uint64_t num_fetched() const { return num_fetched_; }

 private:
  using Clock = std::chrono::steady_clock;
  struct Connection;
  enum class Verdict : std::uint8_t;

  static std::size_t on_header(const char* data, std::size_t one, std::size_t size, void* user);
  static std::size_t on_body(const char* data, std::size_t one, std::size_t size, void* user);

  void start_connections();
  void start(Connection& connection);
  void stop_all() noexcept;
  ByteRange take_segment();
  void put_back(ByteRange segment);

  Verdict judge(Connection& connection);
  Verdict judge_range(Connection& connection);
  Verdict judge_whole(Connection& connection);
  bool is_other_version(std::string_view etag);
  bool store(Connection& connection, std::span<const std::byte> bytes);

  void finish_ended();
  void finish(Connection& connection, CURLcode code);
  void handle_status(Connection& connection);
  void follow(const Connection& connection);
  void note_failure(const std::string& problem, std::optional<std::chrono::seconds> wanted_wait);

  Client& client_;
  Repository repository_;
  std::string name_;
  Location& location_;
  PartFile& part_;
  std::function<void()> on_progress_;
  MultiHandle multi_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::vector<ByteRange> pending_;  // in ascending order
  End end_ = End::kComplete;
  bool is_sequential_ = false;  // the server ignores ranges
  int num_redirects_ = 0;
  int num_failures_ = 0;  // in a row
  Clock::time_point pause_until_;
  std::uint64_t num_fetched_ = 0;
};

}  // namespace mochi::hub
