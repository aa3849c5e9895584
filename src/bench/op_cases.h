// The operations as the model calls them, at its sizes.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "bench/inputs.h"
#include "bench/sizes.h"

namespace mochi::bench {

constexpr std::int64_t kVerifiedRows = 67;  // not a multiple of any tile

using OpTask = std::function<void(Backend&)>;

struct OpCase {
  std::string name;           // the operation's and what it is for, "linear qkv"
  std::string size;           // "44520×3072→9216"
  std::int64_t num_rows;      // along the axis of rows
  std::int64_t num_verified;  // last rows that the oracle computes; it takes time
  // Makes inputs and outputs of that many rows; the task runs the operation once.
  std::function<OpTask(Inputs&, std::int64_t num_rows)> make;
  // Returns the error of the results on the device, if rows cannot be compared one by one. Empty:
  // the last rows are compared.
  std::function<double(const RandomInputs&, Backend& device, Backend& oracle)> find_error = {};
};

// Return all cases, with one function for each network.
std::vector<OpCase> list_op_cases(const Sizes& sizes);

std::vector<OpCase> list_dit_cases(const Sizes& sizes);
std::vector<OpCase> list_text_cases(const Sizes& sizes);
std::vector<OpCase> list_decoder_cases(const Sizes& sizes);
std::vector<OpCase> list_encoder_cases(const Sizes& sizes);
// Not among all cases, because they are slow.
std::vector<OpCase> list_sparse_cases(const Sizes& sizes);

// Returns the cases whose names contain one of `names`, or all. Throws Error when there is no such
// name.
std::vector<OpCase> choose_cases(const std::vector<OpCase>& cases,
                                 const std::vector<std::string>& names);

// The ceilings of a backend's speed: a matmul and a copy that are too large for any cache.
OpCase product_ceiling(const Sizes& sizes);
OpCase copy_ceiling(const Sizes& sizes);

// out [rows, n] = x [rows, k] times a matrix [n, k].
OpCase linear_case(const std::string& what, std::int64_t num_rows, std::int64_t k, std::int64_t n,
                   bool has_bias, bool accumulates = false);
// A product of operands in I8.
OpCase linear_i8_case(const std::string& what, std::int64_t num_rows, std::int64_t k,
                      std::int64_t n);

// out [rows, features] = act(a)·b with (a | b) = x [rows, k] times a matrix.
OpCase gated_linear_case(const std::string& what, std::int64_t num_rows, std::int64_t k,
                         std::int64_t features, Activation activation, bool is_quantised = false);

}  // namespace mochi::bench
