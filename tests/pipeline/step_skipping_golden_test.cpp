// Step skipping on the micro model against training/micro/skipping.py.
#include <gtest/gtest.h>

#include <string>

#include "mochi/mochi.h"
#include "pipeline/step_observer.h"
#include "support/device_tensors.h"
#include "support/golden.h"

namespace mochi {
namespace {

struct SkippingCase {
  const char* name;
  StepSkipping skipping;
};

const SkippingCase kSkippingCases[] = {
    {"easy", {.rule = SkipRule::kEasy, .threshold = 0.2, .warm_up = 2}},
    {"line",
     {.rule = SkipRule::kLine,
      .threshold = 0.02,
      .extrapolation = Extrapolation::kLine,
      .warm_up = 2}},
    {"corrected", {.rule = SkipRule::kLine, .threshold = 0.05, .correct_path = true, .warm_up = 2}},
    {"budget",
     {.rule = SkipRule::kBudget,
      .extrapolation = Extrapolation::kLine,
      .null_every = 2,
      .max_evaluations = 10}},
    {"run",
     {.rule = SkipRule::kEasy, .threshold = 10.0, .warm_up = 3, .cool_down = 2, .longest_run = 3}},
};

class StepSkippingGolden : public OnDevice {
 protected:
  Golden golden_{"sampler/step_skipping"};
};

INSTANTIATE_TEST_SUITE_P(On, StepSkippingGolden, testing::Values(kCpuCase, kCudaF32Case),
                         name_of_case);

TEST_P(StepSkippingGolden, StepsAndLatentsAgreeWithTheReference) {
  if (*MOCHI_SANITIZERS != '\0') GTEST_SKIP() << "the tiny model's tests run the same code";
  Engine engine({.model_dir = micro_model_folder(),
                 .device = GetParam().device.is_cpu() ? DeviceKind::kCpu : DeviceKind::kCuda,
                 .precision = Precision::kFp32});
  GenerateRequest request = engine.model().default_request();
  request.prompt = golden_.config()["prompt"].get<std::string>();
  request.seed = golden_.config()["seed"].get<std::uint64_t>();
  request.noise_source = NoiseSource::kTorchCpu;
  request.num_frames = 7;
  request.num_steps = golden_.config()["num_steps"].get<int>();
  request.linear_steps = 0;
  request.sparsity.emplace();
  request.sparsity->patchify_is_enabled = false;
  request.sparsity->attn.is_enabled = false;
  for (const SkippingCase& c : kSkippingCases) {
    request.sparsity->step_skipping = c.skipping;
    std::vector<int> steps;
    StepObserver observer;
    observer.after_step = [&steps](const StepView& view) { steps = view.evaluated_steps(); };
    std::vector<float> latents = engine.sample(request, observer).values;
    const std::string output = std::string("output.") + c.name;
    latents.resize(static_cast<std::size_t>(golden_.shape(output).num_elements()));
    EXPECT_EQ(steps, golden_.ints(std::string("steps.") + c.name)) << c.name;
    const double error = relative_error(latents, golden_.values(output));
    record_error(output, error);
    EXPECT_LE(error, 1e-5) << c.name;
  }
}

}  // namespace
}  // namespace mochi
