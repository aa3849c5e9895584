// Weights that are stored with scales, as 8-bit checkpoints have them: weight = stored · scale.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/stored_source.h"

namespace mochi {

// A file's weights with their scales, which are not listed as tensors.
class ScaledSource final : public TensorSource {
 public:
  // A tensor's name → its scale's name.
  using Scales = std::map<std::string, std::string, std::less<>>;

  ScaledSource(std::shared_ptr<const StoredSource> stored, Scales scales,
               std::vector<std::string> hidden)
      : stored_(std::move(stored)), scales_(std::move(scales)), hidden_(std::move(hidden)) {}

  std::string description() const override { return stored_->description(); }
  std::vector<std::string> names() const override;
  bool contains(std::string_view name) const override;
  TensorInfo info(std::string_view name) const override;
  std::vector<StoredRows> stored_rows(std::string_view name) const override;
  std::vector<std::string> unread() const override;

 private:
  bool is_hidden(std::string_view name) const;
  std::vector<std::string> without_hidden(std::vector<std::string> names) const;
  // One scale, or one for each row of a tensor of this shape.
  std::vector<float> read_scales(std::string_view name, const Shape& shape) const;

  std::shared_ptr<const StoredSource> stored_;
  Scales scales_;
  std::vector<std::string> hidden_;  // sorted: scales, markers
};

// Scales that a source has.
struct ScaleSummary {
  bool has_scales = false;
  bool has_input_scales = false;  // those of layers' inputs, which are not used
};
ScaleSummary summarise_scales(const TensorSource& source);

// The tensors with their scales applied, or the source itself if it has none. Two spellings are
// read: `<layer>.scale_weight` and `<layer>.weight_scale`, with one value or one for each row.
// Weights are 8-bit floats or, if the format `int8_tensorwise` is stated, 8-bit integers. Throws
// Error naming the tensor if it is stored in a way that is not read, so that a weight is never used
// without its scale.
std::shared_ptr<TensorSource> with_scales(std::shared_ptr<StoredSource> stored);

}  // namespace mochi
