// Arithmetic on sizes that come from files or users: overflow is an Error, not a wrap.
#pragma once

#include <concepts>
#include <span>
#include <string_view>

#include "base/error.h"

namespace mochi {

// `what` names the quantity in the message.
template <std::integral T>
T checked_add(T left, T right, std::string_view what) {
  T sum{};
  if (__builtin_add_overflow(left, right, &sum)) {
    fail("{} is too large: {} + {} overflows", what, left, right);
  }
  return sum;
}

template <std::integral T>
T checked_mul(T left, T right, std::string_view what) {
  T product{};
  if (__builtin_mul_overflow(left, right, &product)) {
    fail("{} is too large: {} * {} overflows", what, left, right);
  }
  return product;
}

// Product of all values; 1 for none.
template <std::integral T>
T checked_product(std::span<const T> values, std::string_view what) {
  T product{1};
  for (const T value : values) product = checked_mul(product, value, what);
  return product;
}

}  // namespace mochi
