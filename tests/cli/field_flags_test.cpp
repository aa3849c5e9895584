#include "cli/field_flags.h"

#include <gtest/gtest.h>

#include <CLI/CLI.hpp>

#include "cli/app.h"

namespace mochi::cli {
namespace {

TEST(FieldFlags, FieldsAreKnownByTheFlagsThatSetThem) {
  Commands commands;
  const auto app = make_app(commands);
  const CLI::App& generate = *app->get_subcommand("generate");
  EXPECT_EQ(flag_of_field(generate, "num_frames"), "--num-frames");
  EXPECT_EQ(flag_of_field(generate, "num_threads"), "--threads");
  EXPECT_EQ(flag_of_field(generate, "precision"), "--dtype");
  EXPECT_EQ(flag_of_field(generate, "initial_noise"), "--noise");
}

TEST(FieldFlags, OnlyTheCommandsOwnFlagsAreNamed) {
  Commands commands;
  const auto app = make_app(commands);
  EXPECT_EQ(flag_of_field(*app->get_subcommand("encode"), "num_steps"), "num_steps");
  EXPECT_EQ(flag_of_field(*app->get_subcommand("generate"), "nan"), "nan");
  EXPECT_EQ(flag_of_field(*app->get_subcommand("bench"), "num_layers"), "--layers");
}

}  // namespace
}  // namespace mochi::cli
