#include "hub/sha256.h"

#include <openssl/evp.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <utility>
#include <vector>

#include "base/error.h"

namespace mochi::hub {
namespace {

constexpr std::size_t kBlockBytes = std::size_t{1} << 20;
constexpr std::chrono::milliseconds kWait{100};

void require_success(int result) {
  if (result != 1) fail("SHA-256: OpenSSL reports an error");
}

// Threads block signals, so that one interrupts the calling thread.
class AllSignalsBlocked {
 public:
  AllSignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old_mask_);
  }
  ~AllSignalsBlocked() { pthread_sigmask(SIG_SETMASK, &old_mask_, nullptr); }
  AllSignalsBlocked(const AllSignalsBlocked&) = delete;
  AllSignalsBlocked& operator=(const AllSignalsBlocked&) = delete;

 private:
  sigset_t old_mask_{};
};

}  // namespace

void Sha256::Free::operator()(evp_md_ctx_st* context) const noexcept { EVP_MD_CTX_free(context); }

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  if (context_ == nullptr) throw std::bad_alloc();
  require_success(EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr));
}

void Sha256::add(std::span<const std::byte> bytes) {
  require_success(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()));
}

std::string Sha256::finish() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  require_success(EVP_DigestFinal_ex(context_.get(), digest.data(), &size));
  std::string text;
  for (unsigned int i = 0; i < size; ++i) text += fmt::format("{:02x}", digest[i]);
  return text;
}

bool is_sha256(std::string_view text) {
  constexpr std::size_t kNumDigits = 64;
  return text.size() == kNumDigits &&
         text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

PrefixHasher::PrefixHasher(int descriptor, std::filesystem::path path, OnHashed on_hashed)
    : descriptor_(descriptor), path_(std::move(path)), on_hashed_(std::move(on_hashed)) {
  const AllSignalsBlocked blocked;  // the thread inherits this
  thread_ = std::thread([this] { run(); });
}

PrefixHasher::~PrefixHasher() {
  {
    const std::lock_guard lock(mutex_);
    should_end_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void PrefixHasher::advance(std::uint64_t end) {
  {
    const std::lock_guard lock(mutex_);
    if (end <= end_) return;
    end_ = end;
    // A block at a time, so that the thread is not woken for every few bytes.
    if (end_ - num_hashed_ < kBlockBytes) return;
  }
  changed_.notify_all();
}

std::uint64_t PrefixHasher::num_hashed() const {
  const std::lock_guard lock(mutex_);
  return num_hashed_;
}

std::string PrefixHasher::finish(std::uint64_t size, const std::function<void()>& on_wait) {
  advance(size);
  changed_.notify_all();
  std::unique_lock lock(mutex_);
  while (num_hashed_ < size && !problem_) {
    changed_.wait_for(lock, kWait);
    lock.unlock();
    on_wait();
    lock.lock();
  }
  if (problem_) std::rethrow_exception(problem_);
  return sha256_.finish();
}

void PrefixHasher::run() noexcept {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return should_end_ || end_ > num_hashed_; });
    if (should_end_) return;
    const std::uint64_t begin = num_hashed_;
    const std::uint64_t end = std::min<std::uint64_t>(end_, begin + kBlockBytes);
    lock.unlock();
    try {
      hash_next(begin, end);
    } catch (...) {
      lock.lock();
      problem_ = std::current_exception();
      changed_.notify_all();
      return;
    }
    lock.lock();
    num_hashed_ = end;
    if (num_hashed_ == end_) changed_.notify_all();
  }
}

void PrefixHasher::hash_next(std::uint64_t begin, std::uint64_t end) {
  thread_local std::vector<std::byte> s_block(kBlockBytes);
  while (begin < end) {
    const ssize_t num_read =
        ::pread(descriptor_, s_block.data(), end - begin, static_cast<off_t>(begin));
    if (num_read < 0 && errno == EINTR) continue;
    if (num_read <= 0) {
      fail("cannot read '{}': {}", path_.string(),
           num_read == 0 ? "it ends early" : describe_errno(errno));
    }
    sha256_.add(std::span(s_block).first(static_cast<std::size_t>(num_read)));
    begin += static_cast<std::uint64_t>(num_read);
  }
  if (on_hashed_) on_hashed_(end);
}

}  // namespace mochi::hub
