// The operations of sparse attention as they are measured.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "bench/op_bench.h"
#include "bench/profiling_backend.h"

namespace mochi::bench {
namespace {

SparsityConfig load_bundled() {
  return load_sparsity_config(std::filesystem::path(MOCHI_SOURCE_DIR) / "chipmunk-config.yml")
      .config;
}

class SparseCases : public testing::Test {
 protected:
  static OpCase find(const std::string& name) {
    const std::vector<OpCase> cases = list_sparse_cases(sizes_of("micro", load_bundled()));
    const auto found = std::ranges::find(cases, name, &OpCase::name);
    EXPECT_NE(found, cases.end()) << name;
    return *found;
  }

  std::unique_ptr<Backend> device_ = make_backend(Device::cpu());
  std::unique_ptr<Backend> oracle_ = make_backend(Device::cpu());
};

TEST(SparseSizes, TakeTheGivenSparsity) {
  const SparsityConfig bundled = load_bundled();
  EXPECT_EQ(to_yaml(sizes_of("full", bundled).sparsity), to_yaml(bundled));
  const SparsityConfig micro = sizes_of("micro", bundled).sparsity;
  EXPECT_EQ(micro.attn.top_keys, bundled.attn.top_keys);
  EXPECT_EQ(micro.attn.full_step_schedule, bundled.attn.full_step_schedule);
  EXPECT_EQ(micro.attn.group_size, 64);
}

// Groups of the last rows are those of the whole.
TEST_F(SparseCases, PassVerification) {
  for (const OpCase& op : list_sparse_cases(sizes_of("micro", load_bundled()))) {
    RandomInputs inputs(*device_, 5);
    const OpTask task = op.make(inputs, op.num_rows);
    EXPECT_LE(verify_op(op, inputs, task, *device_, *oracle_), 1e-5) << op.name;
  }
}

TEST_F(SparseCases, AWrongWordIsFound) {
  for (const char* name : {"select_columns", "expand_columns"}) {
    const OpCase op = find(name);
    RandomInputs inputs(*device_, 5);
    const OpTask task = op.make(inputs, op.num_rows);
    task(*device_);
    EXPECT_EQ(op.find_error(inputs, *device_, *oracle_), 0.0);
    ++*reinterpret_cast<std::int32_t*>(inputs.outputs().front().tensor.bytes());
    EXPECT_GT(op.find_error(inputs, *device_, *oracle_), 0.0) << name;
  }
}

// 196 tokens, 2 heads of 128: half of them is 96 columns, a multiple of 16.
TEST_F(SparseCases, CountTheKeptColumns) {
  const OpCase op = find("column_sparse_attention 50 %");
  RandomInputs inputs(*device_, 5);
  ProfilingBackend counting(*device_, /*is_timing=*/false);
  op.make(inputs, op.num_rows)(counting);
  EXPECT_DOUBLE_EQ(counting.total_cost().flops, 4.0 * 128 * 2 * 196 * 96);
}

}  // namespace
}  // namespace mochi::bench
