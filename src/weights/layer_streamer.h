// Weights of a stack of equal layers that are stored on the host. Only the weights of the layers
// that run next are on the device, in slots that the layers share in turn.
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace mochi {

// Returns the layer that a parameter belongs to, by its name, or nothing if it is always needed.
using LayerOfFn = std::function<std::optional<std::size_t>(const std::string& name)>;

class LayerStreamer {
 public:
  // layer_bytes is the size of the largest layer, with each of its tensors rounded up to
  // kAlignment.
  LayerStreamer(Backend& backend, LayerOfFn layer_of, std::size_t layer_bytes);
  ~LayerStreamer();
  LayerStreamer(const LayerStreamer&) = delete;
  LayerStreamer& operator=(const LayerStreamer&) = delete;

  static constexpr std::size_t kAlignment = 256;
  // one runs, two are being fetched
  static constexpr std::size_t kNumSlots = 3;

  std::optional<std::size_t> layer_of(const std::string& name) const { return layer_of_(name); }

  // Returns the tensor's place on the device while its layer runs. Layers are placed in order, from
  // 0, and each is filled and stored before the next is placed.
  TensorView place(std::size_t layer, DType dtype, const Shape& shape);
  // Copies the layer's tensors to the host.
  void keep(std::size_t layer);

  // Makes the tensors of this layer usable until the next call, and fetches the next layers
  // meanwhile. After the last layer the first follows.
  void begin(std::size_t layer);

  std::size_t host_bytes() const;

 private:
  std::size_t slot_of(std::size_t layer) const { return layer % kNumSlots; }
  void fetch(std::size_t layer);

  Backend& backend_;
  LayerOfFn layer_of_;
  std::array<Tensor, kNumSlots> slots_;
  std::array<std::optional<std::size_t>, kNumSlots> in_slot_;  // the layer in each slot
  std::array<Transfer, kNumSlots> fetches_;                    // to each slot
  std::vector<Tensor> layers_;                                 // host storage
  std::size_t used_bytes_ = 0;  // size of what is placed so far of the current layer
};

}  // namespace mochi
