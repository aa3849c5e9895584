#include "flags/arguments.h"

#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "flags/usage_error.h"

namespace mochi::flags {
namespace {

using Args = std::vector<std::string>;

// A program with a flag of each kind.
class Arguments : public testing::Test {
 protected:
  Arguments() {
    CLI::App* make = app_.add_subcommand("make", "make something");
    make->add_option("--prompt", prompt_, "text");
    make->add_option("--num-steps", num_steps_, "number");
    make->add_option("--scales", scales_, "numbers")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->type_name("FLOAT,...");
    make->add_option("--lora-path", loras_, "files")->allow_extra_args(false)->type_name("FILE");
    make->add_option("--resume", resume_, "file")->expected(0, 1)->type_name("[FILE]");
    make->add_flag("--quiet", is_quiet_, "flag");
    app_.add_subcommand("look", "look at something")
        ->add_option("path", path_, "which file")
        ->type_name("PATH")
        ->required();
    app_.require_subcommand(1);
  }

  void parse(const Args& args) {
    Args reversed = read_arguments(app_, args);
    std::reverse(reversed.begin(), reversed.end());
    app_.parse(reversed);
  }

  std::string refusal(const Args& args) {
    try {
      read_arguments(app_, args);
    } catch (const UsageError& error) {
      return error.what();
    }
    return "accepted";
  }

  CLI::App app_;
  std::optional<std::string> prompt_;
  int num_steps_ = 0;
  std::vector<double> scales_;
  Args loras_;
  std::optional<std::string> resume_, path_;
  bool is_quiet_ = false;
};

TEST_F(Arguments, OnlyNamesOfFlagsAreRewritten) {
  EXPECT_EQ(read_arguments(app_, {"make", "--num_steps=4", "--prompt", "--snake_case sign"}),
            (Args{"make", "--num-steps", "4", "--prompt", "--snake_case sign"}));
  EXPECT_EQ(read_arguments(app_, {"make", "--prompt=--a_b=c_d"}),
            (Args{"make", "--prompt", "--a_b=c_d"}));
}

TEST_F(Arguments, ValuesAreTakenLiterally) {
  for (const char* value : {"--quiet", "--", "-x", "[a,b]", "make", "look", "'q'", "\"q\"", "a=b",
                            "", "--no_such_flag", "-1", " x ", "--prompt", "a,b", "/x"}) {
    for (const Args& given : {Args{"--prompt", value}, Args{std::string("--prompt=") + value}}) {
      is_quiet_ = false;
      Args args = given;
      args.insert(args.begin(), "make");
      args.emplace_back("--num-steps");
      args.emplace_back("3");
      parse(args);
      EXPECT_EQ(prompt_, value);
      EXPECT_EQ(num_steps_, 3);
      EXPECT_FALSE(is_quiet_);
    }
  }
}

TEST_F(Arguments, EmptyValueAfterEqualsStaysEmpty) {
  parse({"make", "--prompt=", "--quiet"});
  EXPECT_EQ(prompt_, "");
  EXPECT_TRUE(is_quiet_);
  EXPECT_EQ(refusal({"make", "--num-steps=", "3"}), "--num-steps: is empty");
  EXPECT_EQ(refusal({"make", "--num-steps", ""}), "--num-steps: is empty");
  EXPECT_EQ(refusal({"make", "--resume="}), "--resume: is empty");
  EXPECT_EQ(refusal({"make", "--lora_path="}), "--lora-path: is empty");
  EXPECT_EQ(refusal({"look", ""}), "PATH: is empty");
}

TEST_F(Arguments, LastOfRepeatedFlagsCounts) {
  parse({"make", "--num-steps", "1", "--scales=1,2", "--quiet", "--num-steps=2", "--scales", "3",
         "--quiet"});
  EXPECT_EQ(num_steps_, 2);
  EXPECT_EQ(scales_, std::vector<double>{3});
  parse({"make", "--lora-path", "a", "--lora-path=b"});
  EXPECT_EQ(loras_, (Args{"a", "b"}));
}

TEST_F(Arguments, OptionalValues) {
  parse({"make", "--resume", "--quiet"});
  EXPECT_TRUE(is_quiet_);
  parse({"make", "--resume", "file"});
  EXPECT_EQ(resume_, "file");
  parse({"make", "--resume=-file"});
  EXPECT_EQ(resume_, "-file");
}

TEST_F(Arguments, RefusalsNameTheFlag) {
  EXPECT_EQ(refusal({"make", "--prompt"}), "--prompt: wanted a value (TEXT), found none");
  EXPECT_EQ(refusal({"make", "--quiet=yes"}), "--quiet: takes no value, found 'yes'");
  EXPECT_EQ(refusal({"make", "--quiet="}), "--quiet: takes no value, found ''");
  EXPECT_EQ(refusal({"make", "--num_steps", "1e3"}),
            "--num-steps: wanted a whole number, found '1e3'");
  EXPECT_EQ(refusal({"make", "--", "--prompt"}),
            "unexpected argument '--prompt': after '--' nothing is a flag");
}

TEST_F(Arguments, AfterDashesNothingIsAFlag) {
  parse({"look", "--", "--a_b"});
  EXPECT_EQ(path_, "--a_b");
  EXPECT_EQ(refusal({"look", "--", "a", "b"}),
            "unexpected argument 'b': after '--' nothing is a flag");
}

TEST_F(Arguments, MissingArgumentsAreDescribed) {
  EXPECT_THROW(parse({"look"}), CLI::RequiredError);
  EXPECT_EQ(describe_missing(*app_.get_subcommand("look")), "PATH: is required: which file");
}

}  // namespace
}  // namespace mochi::flags
