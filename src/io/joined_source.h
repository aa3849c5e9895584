// The tensors of several sources as one source.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/stored_source.h"

namespace mochi {

class JoinedSource final : public StoredSource {
 public:
  // Throws Error naming the tensor and both files if two sources have a tensor of one name.
  explicit JoinedSource(std::vector<std::shared_ptr<StoredSource>> sources);

  std::string description() const override;
  std::vector<std::string> names() const override;
  bool contains(std::string_view name) const override { return source_by_name_.contains(name); }
  TensorInfo info(std::string_view name) const override { return source_of(name).info(name); }
  std::vector<StoredRows> stored_rows(std::string_view name) const override {
    return source_of(name).stored_rows(name);
  }
  std::vector<std::string> unread() const override;

  const StoredEntry& entry(std::string_view name) const override {
    return source_of(name).entry(name);
  }
  const std::filesystem::path& file_of(std::string_view name) const override {
    return source_of(name).file_of(name);
  }
  std::vector<std::filesystem::path> files() const override;
  // The first source wins if several have a key.
  std::map<std::string, std::string> metadata() const override;

 private:
  const StoredSource& source_of(std::string_view name) const;

  std::vector<std::shared_ptr<StoredSource>> sources_;
  std::map<std::string, const StoredSource*, std::less<>> source_by_name_;
};

}  // namespace mochi
