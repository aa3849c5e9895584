// Sparse generations of the micro model against those of training/micro/sparsity.py.
#include <gtest/gtest.h>

#include <span>
#include <string>

#include "mochi/mochi.h"
#include "support/device_tensors.h"
#include "support/golden.h"

namespace mochi {
namespace {

struct Case {
  const char* name;
  const char* config;  // beside what all have
};

constexpr Case kCases[] = {
    {"half_merge", "attn: {delta: half_merge, top_keys: 0.15, local_voxels: 1"},
    {"lse_merge",
     "patchify: {is_enabled: false}\n"
     "attn: {delta: lse_merge, top_keys: 0.3, local_voxels: 1, score_queries: 4"},
    {"weighted", "attn: {delta: weighted, top_keys: 0.15, first_n_dense_layers: 0"},
    {"subtract",
     "attn: {delta: subtract, top_p: 0.7, max_keys: 0.4, local_voxels: 1, "
     "first_n_dense_layers: 1"},
    {"none", "attn: {delta: none, top_keys: 0.3, local_voxels: 2"},
};

// Instrumented code is slow, and the tiny model's tests run that of the other cases.
std::span<const Case> cases() {
  return std::span(kCases).first(*MOCHI_SANITIZERS == '\0' ? std::size(kCases) : 1);
}

class SparseGolden : public OnDevice {
 protected:
  // The channels that the golden file has.
  std::vector<float> sample(const std::optional<SparsityConfig>& sparsity) {
    Engine engine({.model_dir = micro_model_folder(),
                   .device = GetParam().device.is_cpu() ? DeviceKind::kCpu : DeviceKind::kCuda,
                   .precision = Precision::kFp32});
    GenerateRequest request = engine.model().default_request();
    request.prompt = golden_.config()["prompt"].get<std::string>();
    request.seed = golden_.config()["seed"].get<std::uint64_t>();
    request.noise_source = NoiseSource::kTorchCpu;
    request.num_frames = 19;
    request.num_steps = golden_.config()["num_steps"].get<int>();
    request.linear_steps = request.num_steps / 2;
    request.sparsity = sparsity;
    std::vector<float> latents = engine.sample(request).values;
    latents.resize(static_cast<std::size_t>(golden_.shape("output.dense").num_elements()));
    return latents;
  }

  Golden golden_{"sampler/sparsity"};
};

INSTANTIATE_TEST_SUITE_P(On, SparseGolden, testing::Values(kCpuCase, kCudaF32Case), name_of_case);

TEST_P(SparseGolden, DenseLatentsAgreeWithTheReference) {
  if (*MOCHI_SANITIZERS != '\0') GTEST_SKIP() << "full steps of the sparse case run the same code";
  EXPECT_LE(relative_error(sample({}), golden_.values("output.dense")), 1e-5);
}

// Nearly equal scores may be ordered in another way, and then a column is another one.
TEST_P(SparseGolden, SparseLatentsAgreeWithTheReference) {
  const std::vector<float> dense = golden_.values("output.dense");
  for (const Case& c : cases()) {
    const std::string yaml =
        std::string(c.config) + ", random_keys: 0, full_step_schedule: !!set {0, 1, 4}}";
    const double error = relative_error(sample(parse_sparsity_config(yaml, c.name).config),
                                        golden_.values(std::string("output.") + c.name));
    record_error(c.name, error);
    EXPECT_LE(error, 1e-3) << c.name;
    EXPECT_GT(relative_error(golden_.values(std::string("output.") + c.name), dense), 5e-3)
        << c.name;
  }
}

}  // namespace
}  // namespace mochi
