// One operation: verified, then timed.
#pragma once

#include "bench/op_cases.h"
#include "bench/session.h"

namespace mochi::bench {

// Returns the allowed error of a result of the device: that of rounding to its activations, and a
// little more for roundings inside the operation.
double max_op_error(DType activation_dtype);

// Runs `task`, which was made from `all` on the device, once. Returns the greatest relative error
// of its outputs, whose last rows are compared with those that the oracle computes from equal
// inputs.
double verify_op(const OpCase& op, RandomInputs& all, const OpTask& task, Backend& device,
                 Backend& oracle);

Measurement measure_op(Session& session, const OpCase& op);

// Fills the report's ceilings; they are measured first.
void measure_ceilings(Session& session);

}  // namespace mochi::bench
