// Adds LoRAs to the weights of the diffusion transformer while they are loaded.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "dit/dit_config.h"
#include "dit/lora_file.h"
#include "dit/lora_targets.h"

namespace mochi {

// One change of a weight or a bias, of some of its rows.
struct LoraDelta {
  std::shared_ptr<const LoraFile> file;
  const LoraLayer* layer = nullptr;  // a layer of that file
  double scale = 1;                  // the user's
  LoraTarget target;

  bool is_decomposed() const { return !layer->magnitude.empty(); }  // a DoRA
};

// By the parameter's name. Each is a change of the weight as it is without the others; their sum is
// formed in this order.
using LoraDeltas = std::map<std::string, std::vector<LoraDelta>, std::less<>>;

// Adds a LoRA, `scale` times as strong as it was made, to `deltas`, and returns it. Only the file's
// header is read. Throws Error naming the file and the tensor when the LoRA does not fit a
// transformer of these sizes.
std::shared_ptr<const LoraFile> add_lora(const std::filesystem::path& path, double scale,
                                         const DitConfig& config, LoraDeltas& deltas);
void add_lora(const std::shared_ptr<const LoraFile>& file, double scale, const DitConfig& config,
              LoraDeltas& deltas);

// The weights of another source (under the original names) with the changes added, in F32.
class LoraMergedSource final : public TensorSource {
 public:
  // `deltas` must outlive the source.
  LoraMergedSource(std::shared_ptr<const TensorSource> source, const LoraDeltas& deltas)
      : source_(std::move(source)), deltas_(deltas) {}

  std::string description() const override { return source_->description(); }
  std::vector<std::string> names() const override { return source_->names(); }
  bool contains(std::string_view name) const override { return source_->contains(name); }
  TensorInfo info(std::string_view name) const override;
  std::vector<StoredRows> stored_rows(std::string_view name) const override;
  std::vector<std::string> unread() const override { return source_->unread(); }

 private:
  std::shared_ptr<const TensorSource> source_;
  const LoraDeltas& deltas_;
};

}  // namespace mochi
