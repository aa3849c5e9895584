// Weights of a stack of equal layers that stay on the host: only those of the layers that run next
// are on the device, in slots that the layers share in turn.
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace mochi {

// The layer that a parameter belongs to, by its name; none: it is always needed.
using LayerOfFn = std::function<std::optional<std::size_t>(const std::string& name)>;

class LayerStreamer {
 public:
  // layer_bytes: of the largest layer, each of its tensors rounded up to kAlignment.
  LayerStreamer(Backend& backend, LayerOfFn layer_of, std::size_t layer_bytes);
  ~LayerStreamer();
  LayerStreamer(const LayerStreamer&) = delete;
  LayerStreamer& operator=(const LayerStreamer&) = delete;

  static constexpr std::size_t kAlignment = 256;
  // One runs, two are on their way.
  static constexpr std::size_t kNumSlots = 3;

  std::optional<std::size_t> layer_of(const std::string& name) const { return layer_of_(name); }

  // Where a tensor of a layer will be whenever the layer runs. Layers come in order, from 0, and
  // each is filled and kept before the next.
  TensorView place(std::size_t layer, DType dtype, const Shape& shape);
  // Takes what is in the layer's tensors to the host.
  void keep(std::size_t layer);

  // From now on, and until the next call, the tensors of this layer may be used; fetches the next
  // layers meanwhile. Behind the last layer comes the first.
  void begin(std::size_t layer);

  std::size_t host_bytes() const;

 private:
  std::size_t slot_of(std::size_t layer) const { return layer % kNumSlots; }
  void fetch(std::size_t layer);

  Backend& backend_;
  LayerOfFn layer_of_;
  std::array<Tensor, kNumSlots> slots_;
  std::array<std::optional<std::size_t>, kNumSlots> in_slot_;  // which layer's weights
  std::vector<Tensor> layers_;                                 // on the host
  std::size_t used_bytes_ = 0;                                 // of the layer that is being placed
};

}  // namespace mochi
