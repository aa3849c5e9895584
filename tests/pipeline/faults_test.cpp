// State that remains when a step goes wrong; networks without files.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <stdexcept>

#include "base/error.h"
#include "base/temp_folder.h"
#include "mochi/mochi.h"
#include "pipeline/step_observer.h"
#include "pipeline/tiny_model.h"
#include "support/test_data.h"

namespace mochi {
namespace {

// Engines of random weights need a config.json alone.
class EngineFaults : public testing::Test {
 protected:
  EngineFaults() { std::ofstream(folder_ / "config.json") << kTinyConfig; }

  EngineOptions options(RandomWeights random_weights = RandomWeights::kConfig) const {
    return {.model_dir = folder_ / "",
            .device = DeviceKind::kCpu,
            .precision = Precision::kFp32,
            .num_threads = 1,
            .random_weights = random_weights};
  }

  TempFolder folder_;
};

TEST_F(EngineFaults, RandomWeightsMakeAFiniteVideoThatDependsOnThePrompt) {
  Engine engine(options());
  EXPECT_EQ(engine.model().files().size(), 1U);
  GenerateRequest request = engine.model().default_request();
  request.prompt = "a red ball";
  engine.model().check_files(request);
  const Latents latents = engine.sample(request);
  for (const float value : latents.values) ASSERT_TRUE(std::isfinite(value));
  int num_frames = 0;
  engine.decode(latents, [&](std::span<const std::uint8_t>, std::int64_t) { ++num_frames; });
  EXPECT_EQ(num_frames, 13);
  request.prompt = "a blue ball";
  EXPECT_NE(engine.sample(request).values, latents.values);
}

TEST_F(EngineFaults, RandomWeightsUseATokenizerIfOneExists) {
  std::filesystem::copy_file(golden_tokenizer(), folder_ / "spiece.model");
  Engine engine(options());
  EXPECT_EQ(engine.model().files().size(), 2U);
  EXPECT_FALSE(engine.sample(engine.model().default_request()).values.empty());
}

TEST_F(EngineFaults, RefusesLorasOfRandomWeights) {
  EngineOptions with_lora = options();
  with_lora.loras = {{"lora.safetensors"}};
  expect_contains(message_of<InvalidRequest>([&] { Engine engine(with_lora); }),
                  "loras: has no effect");
}

TEST_F(EngineFaults, RefusesALimitOfGpuMemoryOnTheCpu) {
  EngineOptions limited = options();
  limited.vram_limit_bytes = 1U << 30;
  expect_contains(message_of<InvalidRequest>([&] { Engine engine(limited); }),
                  "vram_limit_bytes: has no effect on the CPU");
}

TEST_F(EngineFaults, ANanIsFoundWithItsStepAndTheStepsBeforeAreKept) {
  Engine engine(options());
  GenerateRequest request = engine.model().default_request();
  request.cfg_schedule = {4.5, 4.5, 1e300, 4.5};  // beyond the range of fp32
  for (const bool checks_finite : {false, true}) {
    StepObserver observer;
    const SampleOptions how{.start = nullptr, .checks_finite = checks_finite};
    const std::string problem = checks_finite
                                    ? "the latents are not finite, though every layer's output is"
                                    : "the latents are not finite";
    EXPECT_EQ(message_of<NotFinite>([&] { engine.sample(request, observer, how); }),
              "step 3 of 4: " + problem);
    ASSERT_TRUE(observer.state);
    EXPECT_EQ(observer.state->num_steps_done, 2);
    EXPECT_TRUE(std::ranges::all_of(observer.state->latents.values,
                                    [](float value) { return std::isfinite(value); }));
  }
  request.cfg_schedule.clear();
  EXPECT_NO_THROW(engine.sample(request));  // the engine can be used again
}

TEST_F(EngineFaults, ANanOfANetworkIsFoundWithItsLayer) {
  Engine engine(options());
  const GenerateRequest request = engine.model().default_request();
  StepObserver observer;
  std::optional<SamplerState> broken;
  observer.after_step = [&](const StepView& view) {
    if (view.num_done() == 2) broken = view.state();
  };
  engine.sample(request, observer);
  ASSERT_TRUE(broken);
  broken->latents.values[0] = NAN;
  EXPECT_EQ(message_of<NotFinite>(
                [&] { engine.sample(request, {.start = &*broken, .checks_finite = true}); }),
            "step 3 of 4: the output of layer 0 of the prompt branch is not finite");
  EXPECT_EQ(message_of<NotFinite>([&] { engine.sample(request, {.start = &*broken}); }),
            "step 3 of 4: the latents are not finite");
}

TEST_F(EngineFaults, ErrorsOfTheCallersFunctionsPassUnchanged) {
  Engine engine(options());
  StepObserver observer;
  int num_steps = 0;
  observer.after_step = [&](const StepView&) {
    ++num_steps;
    throw Error("no room");
  };
  const GenerateRequest request = engine.model().default_request();
  EXPECT_EQ(message_of<Error>([&] { engine.sample(request, observer); }), "no room");
  EXPECT_EQ(num_steps, 1);
  EXPECT_EQ(observer.num_interruptions, 0);
  StepObserver polled;
  polled.stop = [&]() -> bool { throw std::runtime_error("poll failed"); };
  EXPECT_EQ(message_of<std::runtime_error>([&] { engine.sample(request, polled); }), "poll failed");
}

// An error while keeping the state does not hide the error that ended the sampling.
TEST_F(EngineFaults, AStateThatCannotBeKeptIsAWarning) {
  struct Failing final : Observer {
    bool should_stop() override { return has_step; }
    void on_step(const StepView&) override { has_step = true; }
    void on_interrupted(const StepView&) override { throw Error("no room"); }
    bool has_step = false;
  };
  std::vector<std::string> warnings;
  EngineOptions telling = options();
  telling.on_message = [&](MessageLevel level, std::string_view text) {
    if (level == MessageLevel::kWarning) warnings.emplace_back(text);
  };
  Engine engine(telling);
  Failing observer;
  EXPECT_THROW(engine.sample(engine.model().default_request(), observer), Cancelled);
  EXPECT_EQ(warnings,
            std::vector<std::string>{"the state before the interruption is not kept: no room"});
}

}  // namespace
}  // namespace mochi
