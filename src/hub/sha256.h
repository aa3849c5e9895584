// SHA-256 of bytes, and of a file that is still being written.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <thread>

#include "base/stop.h"

struct evp_md_ctx_st;  // OpenSSL's EVP_MD_CTX

namespace mochi::hub {

class Sha256 {
 public:
  Sha256();

  void add(std::span<const std::byte> bytes);
  // Returns 64 lower-case hexadecimal digits. Nothing can be added afterwards.
  std::string finish();

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const noexcept;
  };
  std::unique_ptr<evp_md_ctx_st, Free> context_;
};

// Returns true for 64 lower-case hexadecimal digits.
bool is_sha256(std::string_view text);

// Hashes a growing file in its own thread: the bytes from the start on that are written. They are
// read again soon after they were written, so that they come from memory, not from the disk.
class PrefixHasher {
 public:
  // Called in the hasher's thread after bytes were hashed, with the number of them from the start.
  using OnHashed = std::function<void(std::uint64_t end)>;

  // `descriptor` must outlive the hasher; `path` names the file in messages.
  PrefixHasher(int descriptor, std::filesystem::path path, OnHashed on_hashed = nullptr);
  ~PrefixHasher();
  PrefixHasher(const PrefixHasher&) = delete;
  PrefixHasher& operator=(const PrefixHasher&) = delete;

  // The bytes [0, end) are written and do not change any more.
  void advance(std::uint64_t end);
  std::uint64_t num_hashed() const;
  // Waits until [0, size) is hashed, calling `on_wait` about ten times a second. Throws Error if
  // the file cannot be read, and whatever `on_wait` throws.
  std::string finish(std::uint64_t size, const std::function<void()>& on_wait);

 private:
  void run() noexcept;
  void hash_next(std::uint64_t begin, std::uint64_t end);

  int descriptor_;
  std::filesystem::path path_;
  OnHashed on_hashed_;
  Sha256 sha256_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t end_ = 0;
  std::uint64_t num_hashed_ = 0;
  bool should_end_ = false;
  std::exception_ptr problem_;
  std::thread thread_;
};

}  // namespace mochi::hub
