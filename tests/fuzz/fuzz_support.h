// What the fuzz targets share. Input may be refused with an Error; anything else that is thrown
// ends the target, and so counts as a find.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/file_descriptor.h"

namespace mochi {

// The bytes as a file in memory, for code that opens a path.
class MemoryFile {
 public:
  explicit MemoryFile(std::span<const std::uint8_t> bytes)
      : file_(::memfd_create("fuzz", MFD_CLOEXEC)) {
    const auto num_bytes = static_cast<ssize_t>(bytes.size());
    if (!file_.is_open() || ::write(file_.get(), bytes.data(), bytes.size()) != num_bytes) {
      std::abort();
    }
  }

  std::filesystem::path path() const { return "/proc/self/fd/" + std::to_string(file_.get()); }

 private:
  FileDescriptor file_;
};

// Calls `use`. Of an Error that it throws, holds the promises: it says something, on one line.
template <typename Use>
void expect_result_or_error(const Use& use) {
  try {
    use();
  } catch (const Error& error) {
    const std::string_view message = error.what();
    if (message.empty() || message.find_first_of("\n\r\033") != std::string_view::npos) {
      std::abort();
    }
  }
}

}  // namespace mochi
