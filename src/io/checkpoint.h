// The tensors of one or many safetensors files, memory-mapped. F64 tensors are given as F32.
#pragma once

#include <atomic>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/safetensors.h"
#include "io/stored_source.h"

namespace mochi {

class Checkpoint final : public StoredSource {
 public:
  // A .safetensors file, an index of shards (*.index.json), or a folder that holds an index or
  // files. In a folder the index or file without a variant in its name ("model.safetensors", not
  // "model.fp16.safetensors") goes first.
  static std::shared_ptr<Checkpoint> open(const std::filesystem::path& path);
  // Files that together hold each tensor once.
  static std::shared_ptr<Checkpoint> open_files(std::span<const std::filesystem::path> paths);
  // A file in memory, which must outlive the checkpoint; `name` is its path in messages.
  static std::shared_ptr<Checkpoint> from_bytes(std::span<const std::byte> bytes,
                                                const std::filesystem::path& name);

  std::string description() const override { return description_; }
  std::vector<std::string> names() const override;
  bool contains(std::string_view name) const override { return entries_.contains(name); }
  TensorInfo info(std::string_view name) const override;
  std::vector<StoredRows> stored_rows(std::string_view name) const override;
  std::vector<std::string> unread() const override;

  // A tensor of one element, of any number type. Counts as reading it.
  double number(std::string_view name) const;

  const StoredEntry& entry(std::string_view name) const override;
  const std::filesystem::path& file_of(std::string_view name) const override;
  std::vector<std::filesystem::path> files() const override;
  // The first file wins if several have a key.
  std::map<std::string, std::string> metadata() const override;

 private:
  struct Entry {
    const SafetensorsFile* file = nullptr;
    const StoredEntry* stored = nullptr;
    mutable std::atomic<bool> is_read = false;
  };

  Checkpoint() = default;
  const SafetensorsFile& add_file(std::unique_ptr<SafetensorsFile> file);
  void add_whole_file(std::unique_ptr<SafetensorsFile> file);
  void add_entry(const std::string& name, const SafetensorsFile& file);
  void load_index(const std::filesystem::path& path);
  void load_folder(const std::filesystem::path& path);
  const Entry& find(std::string_view name) const;

  std::string description_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, Entry, std::less<>> entries_;
};

}  // namespace mochi
