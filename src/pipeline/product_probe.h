// Measures what products in 8 bits would change in the linear layers of the transformer's blocks.
#pragma once

#include <functional>
#include <map>
#include <utility>

#include "backend/backend.h"
#include "dit/dit.h"
#include "mochi/analysis.h"
#include "weights/compute_type.h"

namespace mochi {

using ProductFn = std::function<void(const ProductReport&)>;

// A backend around that of the sampling, which computes the same. It also computes some rows of
// each product again in every 8-bit type that the device has.
class ProductProbe final : public Launches<ProductProbe, Backend> {
 public:
  // `inner` must outlive this.
  ProductProbe(Backend& inner, const Dit& dit);

  // Returns true for about four steps of a sampling, the first one included, in both branches.
  bool wants(int step, int num_steps);
  // Reports the layers that ran since the last report, as those of this pass.
  void report(int step, Branch branch, const ProductFn& on_product);

  template <class Op>
  void launch(const Op& op) {
    inner_.run(op);
  }
  void launch(const ops::Widen& op);
  void launch(const ops::Linear& op) { measure_and_run(op); }
  void launch(const ops::GatedLinear& op) { measure_and_run(op); }
  void launch(const ops::QkvLinear& op) { measure_and_run(op); }

 private:
  struct Squares {
    double difference = 0, total = 0;
  };
  using Key = std::pair<int, LayerGroup>;  // block, layers

  template <class Op>
  void measure_and_run(const Op& op) {
    measure(op.x, op.weight);
    inner_.run(op);
  }
  void measure(const MatrixView& x, const InMatrix& weight);
  const LayerPlace* find_place(const TensorView& weight) const;

  Backend& inner_;
  Arena scratch_;
  std::map<const std::byte*, LayerPlace> places_;  // by the weight's memory
  const std::byte* widened_from_ = nullptr;
  const std::byte* widened_to_ = nullptr;
  int measured_step_ = -1, next_step_ = 0;
  std::map<Key, std::map<ComputeType, Squares>> squares_;
};

}  // namespace mochi
