// Parameters of a network, listed once: every …Weights struct has one `visit` that names each
// parameter, its member and its shape. Loading, random initialisation, counting and inspection all
// use that list.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "backend/backend.h"
#include "io/tensor_source.h"
#include "mochi/compute.h"
#include "weights/layer_streamer.h"
#include "weights/weight_format.h"

namespace mochi {

// The role of a parameter. Matrices (linear, convolution, embedding) are stored as F32 or BF16, or
// those of linear layers in a smaller type; vectors (biases, norm weights) and tables always as
// F32.
enum class WeightRole : std::uint8_t { kMatrix, kVector };

// The member of a …Weights struct that holds a parameter.
class WeightMember {
 public:
  WeightMember(TensorView& tensor) : tensor_(&tensor) {}  // NOLINT: stands for the member
  WeightMember(MatrixView& matrix) : matrix_(&matrix) {}  // NOLINT: as above

  // Returns true if the member can hold a matrix in a smaller type than products take.
  bool can_be_compact() const { return matrix_ != nullptr; }
  MatrixView get() const { return matrix_ != nullptr ? *matrix_ : MatrixView(*tensor_); }
  void set(const MatrixView& parameter) const {
    if (matrix_ != nullptr) {
      *matrix_ = parameter;
    } else {
      *tensor_ = parameter.values();
    }
  }

 private:
  TensorView* tensor_ = nullptr;
  MatrixView* matrix_ = nullptr;
};

// Called for every parameter with its checkpoint key, the member to set, its shape and its role.
using WeightVisitor = std::function<void(const std::string& name, const WeightMember& member,
                                         const Shape& shape, WeightRole role)>;

// Returns the information of the tensor `name`. Throws Error unless `source` holds such a tensor in
// a type that weights can be read from. The error names the tensor and the file, what was wanted
// and what was found.
TensorInfo require_weight(const TensorSource& source, const std::string& name, const Shape& shape);

struct LinearWeights {
  MatrixView weight;  // [out_features, in_features]
  TensorView bias;    // [out_features], or empty

  // Visits the keys prefix.weight and, if there is a bias, prefix.bias.
  void visit(const WeightVisitor& visitor, const std::string& prefix, std::int64_t out_features,
             std::int64_t in_features, bool has_bias);
};

// How a store keeps matrices.
struct MatrixStorage {
  MatrixStorage(DType product_dtype, std::optional<WeightFormat> wanted = {},  // NOLINT: mostly one
                ComputePlan products = {})
      : dtype(product_dtype), format(wanted), compute(std::move(products)) {}

  DType dtype;  // F32 or BF16, in which products take them unless they are quantised
  // The precision of linear layers. Nothing: each stays in the type that its file has if that is
  // smaller than BF16.
  std::optional<WeightFormat> format;
  // Layers that multiply in 8 bits are kept so, whatever the precision of the others.
  ComputePlan compute;
};

// Owner of the memory behind the views of a …Weights struct. W needs `void visit(const
// WeightVisitor&)`.
class WeightStore {
 public:
  WeightStore(Backend& backend, const MatrixStorage& storage)
      : backend_(backend), storage_(storage) {}

  // Makes the parameters of layers stay on the host when they are loaded; streamer() fetches them
  // when they run.
  void stream_layers(LayerOfFn layer_of) { layer_of_ = std::move(layer_of); }
  // Null if all weights are on the device.
  LayerStreamer* streamer() { return streamer_.get(); }
  const LayerStreamer* streamer() const { return streamer_.get(); }

  // Reads every parameter from `source`. Throws Error naming the file and the tensor, what was
  // wanted and what was found.
  template <typename W>
  void load(W& weights, const TensorSource& source) {
    plan_layers(weights, &source);
    loader_ = backend_.device().make_weight_loader();
    weights.visit([&](const std::string& name, const WeightMember& member, const Shape& shape,
                      WeightRole role) { load_one(source, {name, shape, role, member}); });
    finish();
  }

  // Fills the parameters with normal values of the given seed, equal on every machine and device.
  // Matrices are scaled by fan-in^-1/2, biases by 0.02; other vectors are 1 + 0.1·normal.
  template <typename W>
  void init_random(W& weights, std::uint64_t seed) {
    plan_layers(weights, nullptr);
    loader_ = backend_.device().make_weight_loader();
    weights.visit([&](const std::string& name, const WeightMember& member, const Shape& shape,
                      WeightRole role) { init_one(seed++, {name, shape, role, member}); });
    finish();
  }

  std::int64_t num_parameters() const { return num_parameters_; }
  std::size_t size_bytes() const { return size_bytes_; }

  // Size of the parameters in memory, before they are loaded; `source` is null for random ones.
  template <typename W>
  static std::size_t planned_bytes(W weights, const TensorSource* source,
                                   const MatrixStorage& storage) {
    std::size_t sum = 0;
    weights.visit([&](const std::string& name, const WeightMember& member, const Shape& shape,
                      WeightRole role) {
      sum += plan({name, shape, role, member}, source, storage).num_bytes();
    });
    return sum;
  }

 private:
  struct Parameter {
    const std::string& name;
    const Shape& shape;
    WeightRole role;
    WeightMember member;
  };
  struct Plan {
    StorageType type;
    bool is_quantised = false;  // products take the matrix as it is
    std::size_t element_bytes = 0;
    std::size_t scale_bytes = 0;  // at most

    std::size_t num_bytes() const;  // padded for a layer
  };
  // Throws Error if the source has no such weight.
  static Plan plan(const Parameter& parameter, const TensorSource* source,
                   const MatrixStorage& storage);

  template <typename W>
  void plan_layers(W& weights, const TensorSource* source) {
    if (!layer_of_) return;
    std::vector<std::size_t> sizes;
    weights.visit([&](const std::string& name, const WeightMember& member, const Shape& shape,
                      WeightRole role) {
      const std::optional<std::size_t> layer = layer_of_(name);
      if (!layer) return;
      if (*layer >= sizes.size()) sizes.resize(*layer + 1);
      sizes[*layer] += plan({name, shape, role, member}, source, storage_).num_bytes();
    });
    make_streamer(sizes);
  }
  void make_streamer(const std::vector<std::size_t>& layer_bytes);

  void load_one(const TensorSource& source, const Parameter& parameter);
  void load_dense(const TensorSource& source, const std::string& name, const TensorView& target);
  MatrixView load_compact(const TensorSource& source, const Parameter& parameter, const Plan& plan);
  void init_one(std::uint64_t seed, const Parameter& parameter);
  // Copies rows that are compact into the store. They follow one another.
  MatrixView store_rows(const Parameter& parameter, const Plan& plan,
                        std::span<const StoredRows> parts);
  void store_bytes(std::span<const std::byte> bytes, const TensorView& target);
  // Goes on to the layer of this parameter, if layers are streamed.
  void enter_layer(const std::string& name);
  // Allocates memory in the layer that was entered, or else on the backend's device.
  TensorView allocate(DType dtype, const Shape& shape);
  void close_layer();
  void finish();

  Backend& backend_;
  MatrixStorage storage_;
  LayerOfFn layer_of_;
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
  weights.visit([&](const std::string& name, const WeightMember&, const Shape& shape, WeightRole) {
    parameters.emplace_back(name, shape);
  });
  return parameters;
}

}  // namespace mochi
