// The tensors of a source under other names.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/stored_source.h"

namespace mochi {

class RenamedSource final : public StoredSource {
 public:
  // `rename` returns the name of a stored tensor here, which may be the stored one. Throws Error if
  // two tensors get one name.
  RenamedSource(std::shared_ptr<const StoredSource> source,
                const std::function<std::string(const std::string& stored_name)>& rename);

  std::string description() const override { return source_->description(); }
  std::vector<std::string> names() const override;
  bool contains(std::string_view name) const override { return stored_names_.contains(name); }
  TensorInfo info(std::string_view name) const override { return source_->info(stored(name)); }
  std::vector<StoredRows> stored_rows(std::string_view name) const override {
    return source_->stored_rows(stored(name));
  }
  std::vector<std::string> unread() const override { return source_->unread(); }

  const StoredEntry& entry(std::string_view name) const override {
    return source_->entry(stored(name));
  }
  const std::filesystem::path& file_of(std::string_view name) const override {
    return source_->file_of(stored(name));
  }
  std::vector<std::filesystem::path> files() const override { return source_->files(); }
  std::map<std::string, std::string> metadata() const override { return source_->metadata(); }
  std::string prefix() const override { return source_->prefix(); }

 private:
  const std::string& stored(std::string_view name) const;

  std::shared_ptr<const StoredSource> source_;
  std::map<std::string, std::string, std::less<>> stored_names_;
};

}  // namespace mochi
