// Tensors of a generation's state, between device and host.
#pragma once

#include "sparsity/generation_state.h"

namespace mochi {

// Downloads a tensor to `saved`, unless it is empty.
void save_tensor(Backend& backend, const std::string& name, const TensorView& tensor,
                 std::vector<StateTensor>& saved);

// Fills a tensor of the state from the host. Throws Error unless it has this size and dtype.
void load_tensor(Backend& backend, const TensorView& host, const TensorView& target);

// Fills activations and converts them if needed: those saved on a GPU are BF16, on a CPU F32.
void load_activations(Backend& backend, const TensorView& host, const TensorView& target);

}  // namespace mochi
