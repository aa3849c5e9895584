// Functions shared by the benchmarks of whole networks.
#pragma once

#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "bench/inputs.h"
#include "bench/measure.h"
#include "bench/session.h"
#include "weights/weights.h"

namespace mochi::bench {

// Random weights on the device; `W` is a struct of views.
template <typename W>
struct RandomNetwork {
  RandomNetwork(Backend& backend, const MatrixStorage& storage, W random_weights)
      : store(backend, storage), weights(std::move(random_weights)) {
    store.init_random(weights, /*seed=*/1);
  }
  WeightStore store;
  W weights;
};

// Returns the values of a parameter [shape] in F32, on the host.
Tensor download_values(Backend& device, const MatrixView& parameter);

// Copies a parameter to the oracle: as it is if it is quantised for 8-bit products, else in F32.
// `tensors` owns the copy.
MatrixView copy_parameter(Backend& device, Backend& oracle, const MatrixView& parameter,
                          std::deque<Tensor>& tensors);

template <typename W>
W copy_for_oracle(Backend& device, Backend& oracle, W weights, std::deque<Tensor>& tensors) {
  weights.visit([&](const std::string&, const WeightMember& member, const Shape&, WeightRole) {
    member.set(copy_parameter(device, oracle, member.get(), tensors));
  });
  return weights;
}

// The allowed relative error of a few layers of a network.
double max_network_error(DType activation_dtype);

// Times `run`, which launches all work on the backend that it receives, and fills in the results
// common to all networks. The profile, if wanted, comes from one more run.
void measure_network(Session& session, const std::function<void(Backend&)>& run,
                     Measurement& result, bool is_profiled);
// Adds a profile if the request wants one.
void measure_network(Session& session, const std::function<void(Backend&)>& run,
                     Measurement& result);

// Returns the seconds until `run` has launched all of its work, at a size so small that the device
// keeps up.
double measure_launches(Backend& backend, const Task& run);

}  // namespace mochi::bench
