// Parameters of a network, listed once: every …Weights struct has one `visit` that names each
// parameter, its member and its shape. Loading, random initialisation, counting and inspection all
// use that list.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "io/tensor_source.h"
#include "weights/layer_streamer.h"

namespace mochi {

// The role of a parameter. Matrices (linear, convolution, embedding) are stored as F32 or BF16;
// vectors (biases, norm weights) and tables always as F32.
enum class WeightRole : std::uint8_t { kMatrix, kVector };

// Called for every parameter with its checkpoint key, the member to set, its shape and its role.
using WeightVisitor = std::function<void(const std::string& name, TensorView& member,
                                         const Shape& shape, WeightRole role)>;

// Returns the information of the tensor `name`. Throws Error unless `source` holds such a tensor in
// a type that weights can be read from. The error names the tensor and the file, what was wanted
// and what was found.
TensorInfo require_weight(const TensorSource& source, const std::string& name, const Shape& shape);

struct LinearWeights {
  TensorView weight;  // [out_features, in_features] matrix
  TensorView bias;    // [out_features], or empty

  // Visits the keys prefix.weight and, if there is a bias, prefix.bias.
  void visit(const WeightVisitor& visitor, const std::string& prefix, std::int64_t out_features,
             std::int64_t in_features, bool has_bias);
};

// Owner of the memory behind the views of a …Weights struct. W needs `void visit(const
// WeightVisitor&)`.
class WeightStore {
 public:
  WeightStore(Backend& backend, DType matrix_dtype)
      : backend_(backend), matrix_dtype_(matrix_dtype) {}

  // Makes the parameters of layers stay on the host from now on; streamer() fetches them when they
  // run. `weights` gives their sizes.
  template <typename W>
  void stream_layers(W weights, const LayerOfFn& layer_of) {
    std::vector<std::size_t> sizes;
    weights.visit(
        [&](const std::string& name, TensorView& /*member*/, const Shape& shape, WeightRole role) {
          const std::optional<std::size_t> layer = layer_of(name);
          if (!layer) return;
          if (*layer >= sizes.size()) sizes.resize(*layer + 1);
          sizes[*layer] += padded_bytes(shape, role);
        });
    make_streamer(layer_of, sizes);
  }
  LayerStreamer* streamer() { return streamer_.get(); }  // null if all weights are on the device

  // Reads every parameter from `source`. Throws Error naming the file and the tensor, what was
  // wanted and what was found.
  template <typename W>
  void load(W& weights, const TensorSource& source) {
    loader_ = backend_.make_weight_loader();
    weights.visit([&](const std::string& name, TensorView& member, const Shape& shape,
                      WeightRole role) { load_one(source, name, member, shape, role); });
    finish();
  }

  // Fills the parameters with normal values of the given seed, equal on every machine and device.
  // Matrices are scaled by fan-in^-1/2, biases by 0.02; other vectors are 1 + 0.1·normal.
  template <typename W>
  void init_random(W& weights, std::uint64_t seed) {
    weights.visit([&](const std::string& name, TensorView& member, const Shape& shape,
                      WeightRole role) { init_one(seed++, name, member, shape, role); });
    finish();
  }

  std::int64_t num_parameters() const { return num_parameters_; }
  std::size_t size_bytes() const { return size_bytes_; }

 private:
  void load_one(const TensorSource& source, const std::string& name, TensorView& member,
                const Shape& shape, WeightRole role);
  void init_one(std::uint64_t seed, const std::string& name, TensorView& member, const Shape& shape,
                WeightRole role);
  DType dtype_of(WeightRole role) const {
    return role == WeightRole::kMatrix ? matrix_dtype_ : DType::kF32;
  }
  std::size_t padded_bytes(const Shape& shape, WeightRole role) const;
  void make_streamer(const LayerOfFn& layer_of, const std::vector<std::size_t>& layer_bytes);
  // Allocates memory of the parameter's dtype on the backend's device.
  TensorView allocate(const std::string& name, const Shape& shape, WeightRole role);
  void close_layer();
  void finish();

  Backend& backend_;
  DType matrix_dtype_;
  std::vector<Tensor> tensors_;
  std::unique_ptr<LayerStreamer> streamer_;
  std::optional<std::size_t> open_layer_;  // the layer whose parameters are being filled
  std::unique_ptr<WeightLoader> loader_;   // exists during loading, on devices that have one
  std::int64_t num_parameters_ = 0;
  std::size_t size_bytes_ = 0;
};

// Calls the visitor for every name that a struct lists, with its shape, for inspection.
template <typename W>
std::vector<std::pair<std::string, Shape>> list_parameters(W weights) {
  std::vector<std::pair<std::string, Shape>> parameters;
  weights.visit([&](const std::string& name, TensorView&, const Shape& shape, WeightRole) {
    parameters.emplace_back(name, shape);
  });
  return parameters;
}

}  // namespace mochi
