// A whole file, mapped read-only. Move-only; views into bytes() live as long as the object.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>

namespace mochi {

class MappedFile {
 public:
  MappedFile() = default;
  // Throws Error (with the file's name and the reason) when the file cannot be mapped. An empty
  // file gives an empty span.
  explicit MappedFile(std::filesystem::path path);
  ~MappedFile();

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::span<const std::byte> bytes() const { return {data_, size_bytes_}; }
  // Takes pages that lie within these bytes out of the process's memory, to which they return when
  // they are read again. Does nothing to bytes of other memory.
  void release(std::span<const std::byte> bytes) const noexcept;
  // Returns the path of the file that is mapped at this address, or null if none is known to be.
  // Reading there is fatal (SIGBUS) if the file has become shorter. Safe in a signal handler.
  static const char* path_at(const void* address) noexcept;
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_bytes_}; }

 private:
  void unmap() noexcept;

  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  std::size_t size_bytes_ = 0;
};

}  // namespace mochi
