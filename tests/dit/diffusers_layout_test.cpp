#include "dit/diffusers_layout.h"

#include <gtest/gtest.h>

#include <array>
#include <filesystem>

#include "base/error.h"
#include "base/temp_folder.h"
#include "io/checkpoint.h"
#include "io/same_tensors.h"

namespace mochi {
namespace {

const std::filesystem::path kFormats = std::filesystem::path(MOCHI_GOLDEN_DIR) / "formats";

TEST(DiffusersDit, HoldsTheOriginalTensors) {
  const auto stored = Checkpoint::open(kFormats / "diffusers/transformer");
  EXPECT_TRUE(has_diffusers_dit_keys(*stored));
  const auto original = Checkpoint::open(kFormats / "dit_f32.safetensors");
  expect_same_tensors(*with_original_dit_keys(stored), *original);
}

TEST(DiffusersDit, OriginalKeysPassThrough) {
  const auto original = Checkpoint::open(kFormats / "dit_f32.safetensors");
  EXPECT_FALSE(has_diffusers_dit_keys(*original));
  EXPECT_EQ(with_original_dit_keys(original), original);
}

TEST(DiffusersDit, OtherModelsAreRefused) {
  const auto other = Checkpoint::open(kFormats / "decoder.safetensors");
  const std::string message = message_of<Error>([&] { with_original_dit_keys(other); });
  expect_contains(message, "decoder.safetensors");
  expect_contains(message, "not a Mochi transformer");
}

TEST(DiffusersDit, MissingTensorsAreNamedAsStored) {
  const TempFolder folder;
  const std::array<float, 4> values{};
  const auto bytes = std::as_bytes(std::span(values));
  const std::vector<NamedTensor> tensors{{"patch_embed.proj.weight", DType::kF32, {2, 2}, bytes},
                                         {"norm_out.linear.weight", DType::kF32, {2, 2}, bytes},
                                         {"norm_out.linear.bias", DType::kF32, {4}, bytes}};
  write_safetensors(folder / "a.safetensors", tensors);
  const auto source = with_original_dit_keys(Checkpoint::open(folder / "a.safetensors"));
  expect_contains(message_of<Error>([&] { source->info("t_embedder.mlp.0.weight"); }),
                  "no tensor 'time_embed.timestep_embedder.linear_1.weight'");
}

TEST(DiffusersDit, HalvesNeedAnEvenNumberOfRows) {
  const TempFolder folder;
  const std::array<float, 3> values{};
  const auto bytes = std::as_bytes(std::span(values));
  const std::vector<NamedTensor> tensors{{"patch_embed.proj.weight", DType::kF32, {3}, bytes},
                                         {"norm_out.linear.weight", DType::kF32, {3, 1}, bytes}};
  write_safetensors(folder / "a.safetensors", tensors);
  const auto map = [&] { with_original_dit_keys(Checkpoint::open(folder / "a.safetensors")); };
  expect_contains(message_of<Error>(map), "wanted an even number of rows, found [3, 1]");
}

}  // namespace
}  // namespace mochi
