// The tensors of a GGUF file.
#pragma once

#include <atomic>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/gguf.h"
#include "io/stored_source.h"

namespace mochi {

class GgufSource final : public StoredSource {
 public:
  explicit GgufSource(std::unique_ptr<const GgufFile> file);

  std::string description() const override;
  std::vector<std::string> names() const override;
  bool contains(std::string_view name) const override { return file_->entries().contains(name); }
  TensorInfo info(std::string_view name) const override;
  std::vector<StoredRows> stored_rows(std::string_view name) const override;
  std::vector<std::string> unread() const override;

  const StoredEntry& entry(std::string_view name) const override;
  const std::filesystem::path& file_of(std::string_view name) const override;
  std::vector<std::filesystem::path> files() const override { return {file_->path()}; }
  std::map<std::string, std::string> metadata() const override { return file_->metadata(); }

 private:
  std::unique_ptr<const GgufFile> file_;
  // One for each tensor; true after it has been read.
  mutable std::map<std::string, std::atomic<bool>, std::less<>> is_read_;
};

// Returns true if the file at `path` is one, by its name or its first bytes.
bool is_gguf(const std::filesystem::path& path);

}  // namespace mochi
