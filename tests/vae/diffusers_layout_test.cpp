#include "vae/diffusers_layout.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "base/temp_folder.h"
#include "io/checkpoint.h"
#include "io/same_tensors.h"

namespace mochi {
namespace {

const std::filesystem::path kFormats = std::filesystem::path(MOCHI_GOLDEN_DIR) / "formats";

TEST(DiffusersVae, HoldsTheOriginalDecoder) {
  const auto stored = Checkpoint::open(kFormats / "diffusers/vae");
  EXPECT_TRUE(has_diffusers_decoder_keys(*stored));
  expect_same_tensors(*with_original_decoder_keys(stored),
                      *Checkpoint::open(kFormats / "decoder.safetensors"));
}

TEST(DiffusersVae, HoldsTheOriginalEncoder) {
  const auto stored = Checkpoint::open(kFormats / "diffusers/vae");
  EXPECT_TRUE(has_diffusers_encoder_keys(*stored));
  expect_same_tensors(*with_original_encoder_keys(stored),
                      *Checkpoint::open(kFormats / "encoder.safetensors"));
}

TEST(DiffusersVae, OriginalKeysPassThrough) {
  const auto decoder = Checkpoint::open(kFormats / "decoder.safetensors");
  const auto encoder = Checkpoint::open(kFormats / "encoder.safetensors");
  EXPECT_FALSE(has_diffusers_decoder_keys(*decoder));
  EXPECT_FALSE(has_diffusers_encoder_keys(*encoder));
  EXPECT_EQ(with_original_decoder_keys(decoder), decoder);
  EXPECT_EQ(with_original_encoder_keys(encoder), encoder);
}

TEST(DiffusersVae, OtherModelsAreRefused) {
  const auto other = Checkpoint::open(kFormats / "dit_f32.safetensors");
  expect_contains(message_of<Error>([&] { with_original_decoder_keys(other); }),
                  "not a Mochi VAE decoder");
  expect_contains(message_of<Error>([&] { with_original_encoder_keys(other); }),
                  "not a Mochi VAE encoder");
}

}  // namespace
}  // namespace mochi
