// Safetensors files with quantised blocks: `<layer>.Q8_0_qweight` (U8, rows of whole blocks) takes
// the place of `<layer>.weight`.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/stored_source.h"
#include "tensor/block_format.h"

namespace mochi {

// Gives such weights under the names without the format.
class QweightSource final : public StoredSource {
 public:
  explicit QweightSource(std::shared_ptr<const StoredSource> source);

  std::string description() const override { return source_->description(); }
  std::vector<std::string> names() const override;
  bool contains(std::string_view name) const override;
  TensorInfo info(std::string_view name) const override;
  std::vector<StoredRows> stored_rows(std::string_view name) const override;
  std::vector<std::string> unread() const override { return source_->unread(); }

  const StoredEntry& entry(std::string_view name) const override;
  const std::filesystem::path& file_of(std::string_view name) const override;
  std::vector<std::filesystem::path> files() const override { return source_->files(); }
  std::map<std::string, std::string> metadata() const override { return source_->metadata(); }
  std::string prefix() const override { return source_->prefix(); }

 private:
  struct Qweight {
    std::string stored_name;
    BlockFormat format;
    StoredEntry entry;  // as a tensor of its elements
  };

  void add(const std::string& stored_name, BlockFormat format);
  // Cuts a flat tensor into as many rows as the layer's bias has elements.
  void set_rows(const std::string& stored_name, StoredEntry& entry) const;

  std::shared_ptr<const StoredSource> source_;
  std::map<std::string, Qweight, std::less<>> qweights_;
};

// Returns the source itself if it has no such weights.
std::shared_ptr<StoredSource> with_qweights(std::shared_ptr<StoredSource> source);

}  // namespace mochi
