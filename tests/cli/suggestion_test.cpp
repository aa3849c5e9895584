#include "flags/suggestion.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "cli/app.h"

namespace mochi::cli {
namespace {

class Suggestion : public testing::Test {
 protected:
  std::string about(const std::string& command, const std::string& flag) const {
    return flags::describe_unknown_flag(list_, command, flag);
  }

  Commands commands_;
  std::unique_ptr<CLI::App> app_ = make_app(commands_);
  std::vector<flags::CommandInfo> list_ = flags::list_commands(*app_);
};

TEST_F(Suggestion, FlagsOfTheCommandItselfGoFirst) {
  EXPECT_EQ(about("generate", "--output"), "unknown flag '--output', did you mean '--out'?");
  EXPECT_EQ(about("generate", "--tensors"),
            "unknown flag '--tensors': it is a flag of 'mochi inspect', not of 'mochi generate'");
  EXPECT_EQ(about("", "--tensors"),
            "'--tensors' is a flag of 'mochi inspect': write it after the command");
}

TEST_F(Suggestion, PartsOfWordsAreUnderstood) {
  const std::pair<const char*, const char*> meant[] = {
      {"--steps", "--num-steps"},    {"--frames", "--num-frames"},
      {"--output-dir", "--out-dir"}, {"--model", "--model-dir"},
      {"--lora", "--lora-path"},     {"--negative", "--negative-prompt"},
      {"--scale", "--cfg-scale"},    {"--config", "--chipmunk-config"},
      {"--vram", "--vram-limit"},    {"--num-threads", "--threads"},
  };
  for (const auto& [written, wanted] : meant) {
    EXPECT_EQ(about("generate", written),
              fmt::format("unknown flag '{}', did you mean '{}'?", written, wanted));
  }
}

TEST_F(Suggestion, MisspeltFlagsAreUnderstood) {
  EXPECT_EQ(about("generate", "--promt"), "unknown flag '--promt', did you mean '--prompt'?");
  EXPECT_EQ(about("generate", "--num-stepps"),
            "unknown flag '--num-stepps', did you mean '--num-steps'?");
  EXPECT_EQ(about("version", "--hlep"), "unknown flag '--hlep', did you mean '--help'?");
  EXPECT_EQ(about("", "--versoin"), "unknown flag '--versoin', did you mean '--version'?");
}

TEST_F(Suggestion, WithoutASuggestionItNamesTheHelp) {
  EXPECT_EQ(about("generate", "--frobnicate"),
            "unknown flag '--frobnicate'; see 'mochi generate --help'");
  EXPECT_EQ(about("", "--frobnicate"), "unknown flag '--frobnicate'; see 'mochi --help'");
  EXPECT_EQ(about("version", "--json"), "unknown flag '--json': 'mochi version' takes no flags");
}

TEST_F(Suggestion, Commands) {
  EXPECT_EQ(flags::describe_unknown_command(list_, "inspct"),
            "unknown command 'inspct', did you mean 'inspect'?");
  EXPECT_TRUE(flags::describe_unknown_command(list_, "render")
                  .starts_with("unknown command 'render', known are: generate, serve, decode,"));
}

}  // namespace
}  // namespace mochi::cli
