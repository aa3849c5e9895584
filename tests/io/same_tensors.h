// Compares two sources of weights tensor by tensor.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "io/tensor_source.h"

namespace mochi {

inline std::vector<float> read_all(const TensorSource& source, const std::string& name) {
  std::vector<float> values(static_cast<std::size_t>(source.info(name).shape.num_elements()));
  source.read_f32(name, values);
  return values;
}

// Both hold the same names, shapes and values, and nothing of `found` is left unread.
inline void expect_same_tensors(const TensorSource& found, const TensorSource& wanted) {
  EXPECT_EQ(found.names(), wanted.names());
  for (const std::string& name : wanted.names()) {
    if (!found.contains(name)) continue;  // reported above
    EXPECT_EQ(found.info(name).shape.to_string(), wanted.info(name).shape.to_string()) << name;
    EXPECT_EQ(read_all(found, name), read_all(wanted, name)) << name;
  }
  EXPECT_EQ(found.unread(), std::vector<std::string>{});
}

}  // namespace mochi
