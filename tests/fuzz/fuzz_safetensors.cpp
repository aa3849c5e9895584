// Any bytes as a file of weights. Where the header is accepted, every tensor is looked at and
// converted, and the file is inspected as `mochi inspect` does, which guesses a network's sizes
// from the shapes and recognises the keys and the metadata of a LoRA. A LoRA is merged into the
// weights of a tiny transformer.
#include <map>
#include <vector>

#include "dit/dit_weights.h"
#include "dit/lora.h"
#include "fuzz_support.h"
#include "io/checkpoint.h"
#include "pipeline/inspect.h"

namespace mochi {
namespace {

// The header's promise: all bytes behind it belong to exactly one tensor.
void check_coverage(const Checkpoint& checkpoint, std::size_t file_bytes) {
  std::size_t num_bytes = 0;
  for (const std::string& name : checkpoint.names()) {
    num_bytes += checkpoint.entry(name).bytes.size();
  }
  require(num_bytes < file_bytes);
}

void read_tensor(const Checkpoint& checkpoint, const std::string& name) {
  const TensorInfo info = checkpoint.info(name);
  std::size_t num_bytes = 0;
  for (const StoredRows& rows : checkpoint.stored_rows(name)) num_bytes += rows.bytes.size();
  const auto num_elements = static_cast<std::size_t>(info.shape.num_elements());
  require(num_bytes == storage_bytes(info.type, info.shape.num_elements()));
  std::vector<float> values(num_elements);
  checkpoint.read_f32(name, values);
}

constexpr DitConfig kTinyDit{.depth = 2,
                             .num_heads = 1,
                             .hidden_size_x = 2,
                             .hidden_size_y = 2,
                             .mlp_hidden_x = 2,
                             .mlp_hidden_y = 2,
                             .patch_size = 1,
                             .latent_channels = 1,
                             .text_width = 2,
                             .max_text_tokens = 1,
                             .timestep_features = 2,
                             .pooler_heads = 1};

// Zeros as the weights of the tiny transformer.
class ZeroWeights final : public TensorSource {
 public:
  ZeroWeights() {
    for (auto& [name, shape] : list_parameters(DitWeights(kTinyDit))) {
      weights_.emplace(name, Tensor(DType::kF32, shape));
    }
  }

  std::string description() const override { return "zeros"; }
  std::vector<std::string> names() const override { return {}; }
  bool contains(std::string_view name) const override { return weights_.contains(name); }
  TensorInfo info(std::string_view name) const override {
    return {DType::kF32, weights_.find(name)->second.view().shape(), "zeros"};
  }
  std::vector<StoredRows> stored_rows(std::string_view name) const override {
    const TensorView& view = weights_.find(name)->second.view();
    return {{DType::kF32, view.shape(), {view.bytes(), view.size_bytes()}}};
  }
  std::vector<std::string> unread() const override { return {}; }

 private:
  std::map<std::string, Tensor, std::less<>> weights_;
};

void merge_lora(const std::shared_ptr<Checkpoint>& checkpoint) {
  static const auto zeros = std::make_shared<const ZeroWeights>();
  LoraDeltas deltas;
  add_lora(std::make_shared<const LoraFile>(checkpoint), 0.5, kTinyDit, deltas);
  const LoraMergedSource merged(zeros, deltas);
  for (const auto& [name, changes] : deltas) {
    expect_result_or_error([&] { merged.stored_rows(name); });
  }
}

void use_checkpoint(const std::shared_ptr<Checkpoint>& checkpoint) {
  for (const std::string& name : checkpoint->names()) {
    expect_result_or_error([&] { read_tensor(*checkpoint, name); });
  }
  expect_result_or_error([&] { inspect_weights(checkpoint, std::nullopt); });
  if (holds_lora(*checkpoint)) expect_result_or_error([&] { merge_lora(checkpoint); });
}

}  // namespace

int fuzz(std::span<const std::byte> bytes) {
  std::shared_ptr<Checkpoint> checkpoint;
  if (expect_result_or_error([&] { checkpoint = Checkpoint::from_bytes(bytes, "file"); })) {
    check_coverage(*checkpoint, bytes.size());
    use_checkpoint(checkpoint);
  }
  return 0;
}

}  // namespace mochi
