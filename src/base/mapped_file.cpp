#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/file_descriptor.h"
#include "base/file_target.h"

namespace mochi {
namespace {

// The mappings that exist, for a signal handler, which cannot wait for a lock. Those for which
// there is no room are not listed.
struct Listed {
  std::atomic<const std::byte*> begin = nullptr;  // null: free
  std::atomic<std::size_t> size_bytes = 0;
  std::array<char, 1024> path{};  // ends with a zero; longer paths are cut
};
std::array<Listed, 64> s_listed;
static_assert(std::atomic<const std::byte*>::is_always_lock_free, "read in a signal handler");

void list_mapping(const std::byte* begin, std::size_t size_bytes, const std::string& path) {
  for (Listed& listed : s_listed) {
    const std::byte* free = nullptr;
    // With no size nobody looks at the path that is being written.
    if (!listed.begin.compare_exchange_strong(free, begin)) continue;
    const std::size_t length = std::min(path.size(), listed.path.size() - 1);
    listed.path[path.copy(listed.path.data(), length)] = '\0';
    listed.size_bytes = size_bytes;
    return;
  }
}

void unlist_mapping(const std::byte* begin) {
  for (Listed& listed : s_listed) {
    if (listed.begin != begin) continue;
    listed.size_bytes = 0;
    listed.begin = nullptr;
    return;
  }
}

}  // namespace

const char* MappedFile::path_at(const void* address) noexcept {
  const auto* const wanted = static_cast<const std::byte*>(address);
  for (const Listed& listed : s_listed) {
    const std::byte* const begin = listed.begin;
    if (begin == nullptr || std::less<>()(wanted, begin)) continue;
    if (std::less<>()(wanted, begin + listed.size_bytes)) return listed.path.data();
  }
  return nullptr;
}

MappedFile::MappedFile(std::filesystem::path path) : path_(std::move(path)) {
  // Without O_NONBLOCK a named pipe would hold open() until somebody writes to it.
  const FileDescriptor file(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.is_open()) fail("cannot open '{}': {}", path_.string(), explain_open(path_, errno));
  struct stat status{};
  if (::fstat(file.get(), &status) != 0) {
    fail("cannot stat '{}': {}", path_.string(), describe_errno(errno));
  }
  if (!S_ISREG(status.st_mode)) {
    fail("cannot read '{}': is {}, not a regular file", path_.string(),
         describe_file_kind(status.st_mode));
  }
  size_bytes_ = static_cast<std::size_t>(status.st_size);
  if (size_bytes_ == 0) return;  // mmap refuses a length of zero
  void* mapped = ::mmap(nullptr, size_bytes_, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (mapped == MAP_FAILED) {
    fail("cannot map '{}' ({} bytes): {}", path_.string(), size_bytes_, describe_errno(errno));
  }
  data_ = static_cast<const std::byte*>(mapped);
  list_mapping(data_, size_bytes_, path_.string());
}

MappedFile::~MappedFile() { unmap(); }

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_bytes_(std::exchange(other.size_bytes_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  if (this != &other) {
    unmap();
    path_ = std::move(other.path_);
    data_ = std::exchange(other.data_, nullptr);
    size_bytes_ = std::exchange(other.size_bytes_, 0);
  }
  return *this;
}

void MappedFile::release(std::span<const std::byte> bytes) const noexcept {
  const auto begin = reinterpret_cast<std::uintptr_t>(bytes.data());
  const auto mapping = reinterpret_cast<std::uintptr_t>(data_);
  if (begin < mapping || begin + bytes.size() > mapping + size_bytes_) return;
  const auto page_bytes = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const std::uintptr_t first = (begin + page_bytes - 1) / page_bytes * page_bytes;
  const std::uintptr_t last = (begin + bytes.size()) / page_bytes * page_bytes;
  if (first >= last) return;
  ::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);  // NOLINT: pages
}

void MappedFile::unmap() noexcept {
  if (data_ == nullptr) return;
  unlist_mapping(data_);
  ::munmap(const_cast<std::byte*>(data_), size_bytes_);
  data_ = nullptr;
  size_bytes_ = 0;
}

}  // namespace mochi
