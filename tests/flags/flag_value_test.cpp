#include "flags/flag_value.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>

#include "flags/usage_error.h"

namespace mochi::flags {
namespace {

std::string refusal(const char* type, const std::string& value) {
  try {
    return "accepted as " + check_value("--flag", type, value);
  } catch (const UsageError& error) {
    return error.what();
  }
}

TEST(FlagValue, WholeNumbersAreDecimal) {
  EXPECT_EQ(check_value("--seed", "UINT", "010"), "10");
  EXPECT_EQ(check_value("--seed", "UINT", "009"), "9");
  EXPECT_EQ(check_value("--seed", "UINT", "18446744073709551615"), "18446744073709551615");
  EXPECT_EQ(check_value("--width", "INT", "-0016"), "-16");
  for (const char* value : {"0x10", "1e3", "+5", " 5", "5 ", "1.0", "1,000", "-", "--1", "nan",
                            "inf", "many", "5\n", "٥"}) {
    EXPECT_EQ(refusal("INT", value),
              fmt::format("--flag: wanted a whole number, found '{}'", UsageError(value).what()));
    EXPECT_EQ(refusal("UINT", value).find("--flag: wanted"), 0U) << value;
  }
}

TEST(FlagValue, WholeNumbersAreInRange) {
  EXPECT_EQ(check_value("--width", "INT", "2147483647"), "2147483647");
  for (const char* value : {"2147483648", "-2147483649", "99999999999999999999"}) {
    EXPECT_EQ(refusal("INT", value),
              fmt::format("--flag: wanted a whole number from -2147483648 to 2147483647, found {}",
                          value));
  }
  EXPECT_EQ(refusal("UINT", "18446744073709551616"),
            "--flag: wanted at most 18446744073709551615, found 18446744073709551616");
  EXPECT_EQ(refusal("UINT", "-1"), "--flag: wanted 0 or more, found -1");
}

TEST(FlagValue, NumbersAreFinite) {
  for (const char* value : {"4.5", "-1", "1e-3", ".5", "6."}) {
    EXPECT_EQ(check_value("--cfg-scale", "FLOAT", value), value);
  }
  for (const char* value : {"nan", "inf", "-infinity", "0x1p3", "+5", " 5", "1e999", "4,5", "x"}) {
    EXPECT_EQ(refusal("FLOAT", value), fmt::format("--flag: wanted a number, found '{}'", value));
  }
}

TEST(FlagValue, ListsHaveNoGaps) {
  EXPECT_EQ(check_value("--num-frames", "INT,...", "7,013"), "7,13");
  EXPECT_EQ(check_value("--cfg-schedule", "FLOAT,...", "6,4.5,1"), "6,4.5,1");
  for (const char* value : {",", "1,", ",1", "1,,2", "1 2", "[1,2]", "1;2"}) {
    EXPECT_NE(refusal("FLOAT,...", value).find("separated by commas"), std::string::npos) << value;
  }
  EXPECT_NE(refusal("INT,...", "7,1.5").find("wanted whole numbers"), std::string::npos);
}

TEST(FlagValue, ChoicesAreNamed) {
  EXPECT_EQ(check_value("--device", "auto|cpu|cuda", "cpu"), "cpu");
  EXPECT_EQ(refusal("auto|cpu|cuda", "cuda:0"),
            "--flag: wanted 'auto', 'cpu' or 'cuda', found 'cuda:0'");
  for (const char* value : {"cuda", "cuda:0", "cuda:17"}) {
    EXPECT_EQ(check_value("--device", "auto|cuda[:N]", value), value);
  }
  for (const char* value : {"cuda:", "cuda:x", "cuda:-1", "cuda1", "auto:1", "cuda[:N]"}) {
    EXPECT_NE(refusal("auto|cuda[:N]", value), "accepted") << value;
  }
  EXPECT_EQ(refusal("man|markdown", "MAN"), "--flag: wanted 'man' or 'markdown', found 'MAN'");
}

TEST(FlagValue, OnlyTextMayBeEmpty) {
  EXPECT_EQ(check_value("--prompt", "TEXT", ""), "");
  for (const char* type :
       {"INT", "UINT", "UINT|random", "FLOAT", "FLOAT,...", "auto|cpu", "FILE", "DIR", "SIZE"}) {
    EXPECT_EQ(refusal(type, ""), "--flag: is empty") << type;
  }
}

TEST(FlagValue, RandomSeedsDiffer) {
  EXPECT_EQ(check_value("--seed", "UINT|random", "010"), "10");
  const std::string first = check_value("--seed", "UINT|random", "random");
  EXPECT_TRUE(parse_unsigned(first)) << first;
  // One of three others differs, or 2^96 to one something is wrong.
  bool differs = false;
  for (int i = 0; i < 3; ++i) {
    differs = differs || check_value("--seed", "UINT|random", "random") != first;
  }
  EXPECT_TRUE(differs);
  EXPECT_EQ(refusal("UINT|random", "Random"),
            "--flag: wanted a whole number or 'random', found 'Random'");
}

}  // namespace
}  // namespace mochi::flags
