// What is left when a step goes wrong; networks without files.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "base/error.h"
#include "base/temp_folder.h"
#include "mochi/mochi.h"
#include "pipeline/tiny_model.h"
#include "support/test_data.h"

namespace mochi {
namespace {

// Engines of random weights need a config.json alone.
class EngineFaults : public testing::Test {
 protected:
  EngineFaults() { std::ofstream(folder_ / "config.json") << kTinyConfig; }

  EngineOptions options(const std::string& random_weights = "config") const {
    return {.model_dir = folder_ / "",
            .device = "cpu",
            .dtype = "fp32",
            .num_threads = 1,
            .random_weights = random_weights};
  }

  TempFolder folder_;
};

TEST_F(EngineFaults, RandomWeightsMakeAFiniteVideoThatDependsOnThePrompt) {
  Engine engine(options());
  EXPECT_EQ(engine.model_files().size(), 1U);
  GenerateRequest request = engine.default_request();
  request.prompt = "a red ball";
  engine.check_files(request);
  const Latents latents = engine.sample(request);
  for (const float value : latents.values) ASSERT_TRUE(std::isfinite(value));
  int num_frames = 0;
  engine.decode(latents, [&](std::span<const std::uint8_t>, std::int64_t) { ++num_frames; });
  EXPECT_EQ(num_frames, 13);
  request.prompt = "a blue ball";
  EXPECT_NE(engine.sample(request).values, latents.values);
}

TEST_F(EngineFaults, RandomWeightsUseATokenizerThatIsThere) {
  std::filesystem::copy_file(golden_tokenizer(), folder_ / "spiece.model");
  Engine engine(options());
  EXPECT_EQ(engine.model_files().size(), 2U);
  EXPECT_FALSE(engine.sample(engine.default_request()).values.empty());
}

TEST_F(EngineFaults, RefusesUnknownSizesAndLorasOfRandomWeights) {
  expect_contains(message_of<Error>([&] { Engine(options("mochi-2")); }),
                  "random_weights: wanted 'mochi-1-preview' or 'config', found 'mochi-2'");
  EngineOptions with_lora = options();
  with_lora.loras = {{"lora.safetensors"}};
  expect_contains(message_of<Error>([&] { Engine engine(with_lora); }), "loras: have no effect");
}

TEST_F(EngineFaults, RefusesALimitOfGpuMemoryOnTheCpu) {
  EngineOptions limited = options();
  limited.vram_limit_bytes = 1U << 30;
  expect_contains(message_of<Error>([&] { Engine engine(limited); }),
                  "vram_limit: has no effect on the CPU");
}

TEST_F(EngineFaults, ANanIsFoundWithItsStepAndLayerAndTheStepsBeforeAreSaved) {
  Engine engine(options());
  GenerateRequest request = engine.default_request();
  std::vector<SamplerState> states;
  SampleControl control;
  control.checkpoint_every = 2;
  control.on_checkpoint = [&](const SamplerState& state) { states.push_back(state); };
  control.checks_finite = true;
  engine.sample(request, {}, control);
  ASSERT_EQ(states.size(), 1U);

  SamplerState broken = states.front();
  broken.latents.values[0] = NAN;
  states.clear();
  control.checkpoint_every = 0;
  control.start = &broken;
  EXPECT_EQ(message_of<Error>([&] { engine.sample(request, {}, control); }),
            "step 3 of 4: not finite behind layer 0 of the prompt branch");
  ASSERT_EQ(states.size(), 1U);
  EXPECT_EQ(states.front().num_steps_done, 2);

  control.checks_finite = false;
  EXPECT_NO_THROW(engine.sample(request, {}, control));  // goes on, and is of use
}

TEST_F(EngineFaults, ErrorsOfTheCallersOwnFunctionsComeOutAsTheyAre) {
  Engine engine(options());
  int num_saved = 0;
  SampleControl control;
  control.checkpoint_every = 1;
  control.on_checkpoint = [&](const SamplerState&) {
    ++num_saved;
    throw Error("no room");
  };
  EXPECT_EQ(message_of<Error>([&] { engine.sample(engine.default_request(), {}, control); }),
            "no room");
  EXPECT_EQ(num_saved, 1);
}

}  // namespace
}  // namespace mochi
