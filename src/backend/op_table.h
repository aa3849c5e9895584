// Virtual functions for the list of operations: do_run(const Op&), one for each.
#pragma once

#include <cstddef>
#include <tuple>

#include "backend/ops/ops.h"

namespace mochi {

inline constexpr std::size_t kNumOps = std::tuple_size_v<ops::All>;

// The interface: a pure virtual do_run() for each of the first N operations.
template <std::size_t N = kNumOps>
class OpTable : public OpTable<N - 1> {
 protected:
  using OpTable<N - 1>::do_run;
  virtual void do_run(const std::tuple_element_t<N - 1, ops::All>& op) = 0;
};

template <>
class OpTable<0> {
 public:
  virtual ~OpTable() = default;

 protected:
  void do_run() = delete;  // so that every table has a function of this name
};

// Implements do_run() of every operation by Self::launch(op), which may be a template.
template <class Self, class Base, std::size_t N = kNumOps>
// NOLINTNEXTLINE(bugprone-crtp-constructor-accessibility): the next of the chain constructs it
class Launches : public Launches<Self, Base, N - 1> {
 protected:
  using Launches<Self, Base, N - 1>::Launches;
  using Launches<Self, Base, N - 1>::do_run;
  void do_run(const std::tuple_element_t<N - 1, ops::All>& op) final {
    static_cast<Self&>(*this).launch(op);
  }
};

template <class Self, class Base>
class Launches<Self, Base, 0> : public Base {
 protected:
  using Base::Base;
};

}  // namespace mochi
