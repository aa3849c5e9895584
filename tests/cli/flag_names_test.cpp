#include "cli/flag_names.h"

#include <gtest/gtest.h>

namespace mochi::cli {
namespace {

TEST(FlagNames, FieldsAreKnownByTheFlagsThatSetThem) {
  EXPECT_EQ(flag_of("num_frames"), "--num-frames");
  EXPECT_EQ(flag_of("cfg_schedule"), "--cfg-schedule");
  EXPECT_EQ(flag_of("num_threads"), "--threads");
  EXPECT_EQ(flag_of("precision"), "--dtype");
  EXPECT_EQ(flag_of("vram_limit_bytes"), "--vram-limit");
  EXPECT_EQ(flag_of("initial_noise"), "--noise");
  EXPECT_EQ(flag_of("loras"), "--lora-path");
  EXPECT_EQ(flag_of("sparsity"), "--chipmunk-config");
}

TEST(FlagNames, FieldsWithoutAFlagStay) {
  for (const char* field : {"latents", "nan", "empty", ""}) EXPECT_EQ(flag_of(field), field);
}

TEST(FlagNames, OnlyRefusedFieldsAreReworded) {
  EXPECT_EQ(describe_error(InvalidRequest("num_frames", "wanted 7")), "--num-frames: wanted 7");
  EXPECT_EQ(describe_error(Error("width: cannot be read")), "width: cannot be read");
}

TEST(FlagNames, RemediesAreFlags) {
  EXPECT_EQ(describe_error(OutOfMemory("GPU memory: wanted 2 GB", {Remedy::kRaiseVramLimit})),
            "GPU memory: wanted 2 GB; --vram-limit may be too low");
}

}  // namespace
}  // namespace mochi::cli
