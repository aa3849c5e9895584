#include "weights/layer_streamer.h"

#include <exception>
#include <utility>

#include "base/error.h"

namespace mochi {
namespace {

Shape byte_shape(std::size_t num_bytes) { return {static_cast<std::int64_t>(num_bytes)}; }

}  // namespace

LayerStreamer::LayerStreamer(Backend& backend, LayerOfFn layer_of, std::size_t layer_bytes)
    : backend_(backend), layer_of_(std::move(layer_of)) {
  for (Tensor& slot : slots_) {
    slot = Tensor(DType::kU8, byte_shape(layer_bytes), backend.allocator());
  }
}

LayerStreamer::~LayerStreamer() {
  try {
    // A fetch that is still in progress reads memory that is about to be freed.
    for (Transfer& fetch : fetches_) backend_.run(ops::Await{.transfer = fetch});
    backend_.device().synchronize();
  } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch): a lost device fetches nothing
  }
}

TensorView LayerStreamer::place(std::size_t layer, DType dtype, const Shape& shape) {
  const TensorView slot = slots_[slot_of(layer)].view();
  const std::size_t num_bytes = static_cast<std::size_t>(shape.num_elements()) * dtype_bytes(dtype);
  const std::size_t begin = used_bytes_;
  used_bytes_ += (num_bytes + kAlignment - 1) / kAlignment * kAlignment;
  if (layer != layers_.size() || used_bytes_ > slot.size_bytes()) {
    fail("layer {} is out of order or has more than {} bytes", layer, slot.size_bytes());
  }
  return {slot.bytes() + begin, dtype, shape, slot.device()};
}

void LayerStreamer::keep(std::size_t layer) {
  if (layer != layers_.size()) fail("layer {} is stored out of order", layer);
  const auto end = static_cast<std::int64_t>(used_bytes_);
  Tensor host(DType::kU8, {end}, backend_.device().staging_allocator());
  backend_.run(ops::Download{.source = slots_[slot_of(layer)].view().rows(0, end), .host = host});
  layers_.push_back(std::move(host));
  in_slot_[slot_of(layer)] = layer;
  used_bytes_ = 0;
}

void LayerStreamer::fetch(std::size_t layer) {
  const std::size_t slot = slot_of(layer);
  if (in_slot_[slot] == layer) return;
  const TensorView host = layers_[layer].view();
  fetches_[slot] = backend_.device().start_copy(host, slots_[slot].view().rows(0, host.dim(0)));
  in_slot_[slot] = layer;
}

void LayerStreamer::begin(std::size_t layer) {
  fetch(layer);
  backend_.run(ops::Await{.transfer = fetches_[slot_of(layer)]});
  for (std::size_t ahead = 1; ahead < kNumSlots; ++ahead) {
    const std::size_t next = (layer + ahead) % layers_.size();
    // If the number of layers is not a multiple of the slots, this slot may hold the layer in use.
    if (slot_of(next) != slot_of(layer)) fetch(next);
  }
}

std::size_t LayerStreamer::host_bytes() const {
  std::size_t total = 0;
  for (const Tensor& layer : layers_) total += layer.view().size_bytes();
  return total;
}

}  // namespace mochi
