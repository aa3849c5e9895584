// Tensors as files store them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/tensor_source.h"

namespace mochi {

// A tensor as it is stored, of any type.
struct StoredEntry {
  std::string dtype_name;  // as in the file; may be one that parse_dtype does not know
  std::vector<std::int64_t> sizes;
  std::span<const std::byte> bytes;  // part of the file, of any alignment
  const MappedFile* file = nullptr;  // which they are part of, if it is mapped
};

// A TensorSource that also lists its tensors and files as stored.
class StoredSource : public TensorSource {
 public:
  virtual const StoredEntry& entry(std::string_view name) const = 0;
  virtual const std::filesystem::path& file_of(std::string_view name) const = 0;
  virtual std::vector<std::filesystem::path> files() const = 0;
  // Returns the metadata of all files.
  virtual std::map<std::string, std::string> metadata() const = 0;
  // Returns what the names of the tensors begin with in the file and not here; mostly nothing.
  virtual std::string prefix() const { return ""; }
};

// The tensors of a source whose names begin with a prefix, under the rest of their names.
class PrefixedSource final : public StoredSource {
 public:
  PrefixedSource(std::shared_ptr<const StoredSource> source, std::string prefix)
      : source_(std::move(source)), prefix_(std::move(prefix)) {}

  std::string description() const override;
  std::vector<std::string> names() const override { return below_prefix(source_->names()); }
  bool contains(std::string_view name) const override { return source_->contains(stored(name)); }
  TensorInfo info(std::string_view name) const override { return source_->info(stored(name)); }
  std::vector<StoredRows> stored_rows(std::string_view name) const override {
    return source_->stored_rows(stored(name));
  }
  std::vector<std::string> unread() const override { return below_prefix(source_->unread()); }

  const StoredEntry& entry(std::string_view name) const override {
    return source_->entry(stored(name));
  }
  const std::filesystem::path& file_of(std::string_view name) const override {
    return source_->file_of(stored(name));
  }
  // Returns the files that hold one of these tensors.
  std::vector<std::filesystem::path> files() const override;
  std::map<std::string, std::string> metadata() const override { return source_->metadata(); }
  std::string prefix() const override { return source_->prefix() + prefix_; }

 private:
  // Returns the name of a tensor in the source.
  std::string stored(std::string_view name) const { return prefix_ + std::string(name); }
  // Returns the names that begin with the prefix, without it.
  std::vector<std::string> below_prefix(const std::vector<std::string>& names) const;

  std::shared_ptr<const StoredSource> source_;
  std::string prefix_;
};

// Opens weights in any format that is read: a file, or an index of shards. Reads headers only.
std::shared_ptr<StoredSource> open_weights(const std::filesystem::path& path);

}  // namespace mochi
