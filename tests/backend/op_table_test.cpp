// The list of operations, and what is generic over it: names, roles, contracts, widened matrices.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "backend/backend.h"
#include "base/error.h"
#include "base/temp_folder.h"

namespace mochi {
namespace {

template <class... Op>
std::vector<std::string> names_of(const std::tuple<Op...>* /*list*/) {
  return {Op::kName...};
}

TEST(OpTable, EveryOperationHasAName) {
  const std::vector<std::string> names = names_of(static_cast<ops::All*>(nullptr));
  EXPECT_EQ(names.size(), kNumOps);
  EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), kNumOps);
  for (const std::string& name : names) {
    EXPECT_FALSE(name.empty());
    EXPECT_TRUE(std::ranges::all_of(name, [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
    })) << name;
  }
}

// Visitor: writes fields down as "name:access", tensors in capitals if they are optional.
struct Lister {
  std::vector<std::string>& found;
  void operator()(const char* name, Role role, const auto& view) const {
    const char* access[] = {"read", "write", "update"};
    found.push_back(std::string(name) + ":" + access[static_cast<int>(role.access)] +
                    (role.is_optional ? "?" : "") + (view ? "" : " empty"));
  }
  void operator()(const char* name, const auto& /*value*/) const { found.emplace_back(name); }
};

template <class Op>
std::vector<std::string> fields_of(const Op& op) {
  std::vector<std::string> found;
  visit_fields(op, Lister{found});
  return found;
}

using Fields = std::vector<std::string>;

TEST(OpTable, FieldsHaveRoles) {
  const Tensor x(DType::kF32, {2, 3});
  const Tensor out(DType::kF32, {2, 4});
  const Tensor weight(DType::kF32, {4, 3});
  ops::Linear linear{.x = x, .weight = weight, .out = out};
  EXPECT_EQ(fields_of(linear), (Fields{"x:read", "weight:read", "bias:read? empty", "out:write",
                                       "activation", "accumulate"}));
  linear.accumulate = true;
  EXPECT_EQ(fields_of(linear)[3], "out:update");
  const ops::FindDelta find{.dense = {x}, .sparse = {x}, .delta = {.cache = out}};
  EXPECT_EQ(fields_of(find),
            (Fields{"dense:read", "dense lse:read? empty", "sparse:read", "sparse lse:read? empty",
                    "cache:write?", "weight:write? empty", "is_merged", "follow",
                    "cache_scale:write? empty"}));
  const ops::ColumnSparseAttention sparse{
      .in = {.q = x, .k = x, .v = x}, .columns = {}, .delta = {.cache = x}, .to = {out}};
  EXPECT_EQ(
      fields_of(sparse),
      (Fields{"q:read", "k:read", "v:read", "bias:read? empty", "scale", "offsets:read empty",
              "columns:read empty", "group_size", "cache:read?", "weight:read? empty", "is_merged",
              "follow", "cache_scale:read? empty", "out:write", "lse:write? empty"}));
}

class OpContracts : public testing::Test {
 protected:
  template <class Op>
  std::string message(const Op& op) {
    try {
      backend_->run(op);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  }

  std::unique_ptr<Backend> backend_ = make_backend(Device::cpu());
  std::unique_ptr<Backend> other_ = make_backend(Device::cpu(1));
};

TEST_F(OpContracts, NameTheOperandAndWhatWasWanted) {
  const Tensor x(DType::kF32, {2, 3});
  const Tensor bf16(DType::kBF16, {2, 3});
  const Tensor ints(DType::kI32, {2, 3});
  const Tensor far(DType::kF32, {2, 3}, other_->allocator());
  const Tensor weight(DType::kI32, {4, 3});
  EXPECT_EQ(message(ops::Silu{.x = x, .out = x}), "accepted");
  EXPECT_EQ(message(ops::Silu{.x = TensorView(), .out = x}), "silu: x is missing");
  EXPECT_EQ(message(ops::Silu{.x = bf16, .out = x}), "silu: x is BF16, wanted F32");
  EXPECT_EQ(message(ops::Silu{.x = x, .out = far}), "silu: out is on another device");
  EXPECT_EQ(message(ops::Copy{.source = ints, .target = x}), "copy: source is I32, wanted F32");
  EXPECT_EQ(message(ops::Linear{.x = x, .weight = weight, .out = x}),
            "linear: weight is I32, wanted F32, BF16, I8 or F8_E4M3");
  EXPECT_EQ(message(ops::Upload{.host = x, .target = bf16}), "upload: target is BF16, wanted F32");
}

TEST(Contract, SaysWhichDtypesAnOperandMayHaveOnItsDevice) {
  const Tensor storage(DType::kI32, {2, 3});
  const auto message = [&](Device device, DType activation, Elements elements) -> std::string {
    const TensorView ints(storage.view().bytes(), DType::kI32, {2, 3}, device);
    try {
      Contract("op", device, activation).operand("x", {.elements = elements}, ints);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  const auto on_cpu = [&](Elements elements) {
    return message(Device::cpu(), DType::kF32, elements);
  };
  const auto on_gpu = [&](Elements elements) {
    return message(Device::cuda(), DType::kBF16, elements);
  };
  EXPECT_EQ(on_cpu(Elements::kMatrix), "op: x is I32, wanted F32 or BF16");
  EXPECT_EQ(on_gpu(Elements::kMatrix), "op: x is I32, wanted BF16");
  EXPECT_EQ(on_cpu(Elements::kF32OrMatrix), "op: x is I32, wanted F32 or BF16");
  EXPECT_EQ(on_gpu(Elements::kF32OrMatrix), "op: x is I32, wanted F32 or BF16");
  EXPECT_EQ(on_cpu(Elements::kF32OrActivation), "op: x is I32, wanted F32");
  EXPECT_EQ(on_gpu(Elements::kF32OrActivation), "op: x is I32, wanted F32 or BF16");
  EXPECT_EQ(on_gpu(Elements::kActivation), "op: x is I32, wanted BF16");
  EXPECT_EQ(on_gpu(Elements::kCache), "op: x is I32, wanted BF16 or F8_E4M3");
  EXPECT_EQ(on_cpu(Elements::kRows), "op: x is I32, wanted F32, I8 or F8_E4M3");
  EXPECT_EQ(on_cpu(Elements::kProductMatrix), "op: x is I32, wanted F32, BF16, I8 or F8_E4M3");
  EXPECT_EQ(on_gpu(Elements::kProductMatrix), "op: x is I32, wanted BF16 or I8");
  EXPECT_EQ(on_cpu(Elements::kF32), "op: x is I32, wanted F32");
  EXPECT_EQ(on_cpu(Elements::kU8), "op: x is I32, wanted U8");
  EXPECT_EQ(on_cpu(Elements::kI32), "accepted");
  EXPECT_EQ(on_gpu(Elements::kAny), "accepted");
}

TEST_F(OpContracts, DevicesOfTheCpuAreIndependent) {
  const Tensor host(DType::kF32, {5});
  std::ranges::fill(host.view().f32(), 3.0F);
  const Tensor there(DType::kF32, {5}, other_->allocator());
  other_->run(ops::Upload{.host = host, .target = there});
  other_->run(ops::Add{.a = there, .b = there, .out = there});
  other_->run(ops::Download{.source = there, .host = host});
  EXPECT_EQ(host.view().f32()[4], 6.0F);
  EXPECT_EQ(there.view().device(), Device::cpu(1));
  EXPECT_EQ(message(ops::Add{.a = there, .b = there, .out = there}), "add: a is on another device");
}

// A backend that keeps what reaches it.
class Spy final : public Launches<Spy, Backend> {
 public:
  explicit Spy(Backend& inner) : Launches(inner.shared_device()), inner_(inner) {}

  template <class Op>
  void launch(const Op& op) {
    launched.emplace_back(Op::kName);
    inner_.run(op);
  }
  void launch(const ops::Linear& op) {
    launched.emplace_back(op.weight.is_dense() ? "linear, dense" : "linear, stored");
    inner_.run(op);
  }
  std::vector<std::string> launched;

 private:
  Backend& inner_;
};

TEST_F(OpContracts, StoredMatricesAreWidenedBeforeTheOperation) {
  Spy spy(*backend_);
  const Tensor x(DType::kF32, {2, 32});
  std::ranges::fill(x.view().f32(), 1.0F);
  const Tensor codes(DType::kU8, {3 * 34});
  std::ranges::fill(std::span(codes.view().bytes(), codes.view().size_bytes()), std::byte{0});
  const Tensor out(DType::kF32, {2, 3});
  const MatrixView stored(BlockFormat::kQ8_0, codes, {}, {3, 32}, DType::kF32);
  spy.run(ops::Linear{.x = x, .weight = stored, .out = out});
  EXPECT_EQ(spy.launched, (Fields{"widen", "linear, dense"}));
  spy.launched.clear();
  spy.run(ops::Linear{.x = x.view().rows(0, 0), .weight = stored, .out = out.view().rows(0, 0)});
  EXPECT_TRUE(spy.launched.empty());  // no rows, no work
}

}  // namespace
}  // namespace mochi
