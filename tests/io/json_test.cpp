#include "io/json.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/temp_folder.h"

namespace mochi {
namespace {

std::string parse_error(std::string_view text) {
  return message_of<Error>([&] { parse_json(text, "config.json"); });
}

TEST(ParseJson, RefusesDuplicateKeysAtAnyDepth) {
  expect_contains(parse_error(R"({"a": 1, "a": 2})"), "config.json: duplicate key 'a'");
  expect_contains(parse_error(R"({"x": [{"b": {"c": 1, "d": 2, "c": 3}}]})"), "duplicate key 'c'");
  EXPECT_NO_THROW(parse_json(R"({"a": {"a": 1}, "b": {"a": 2}, "c": [{"a": 1}, {"a": 2}]})", ""));
}

TEST(ParseJson, ErrorsGiveThePlace) {
  const std::string message = parse_error("{\n  \"a\": 1,\n  \"b\": oops\n}");
  expect_contains(message, "config.json: line 3, column 8: not valid JSON");
  EXPECT_EQ(message.find("json.exception"), std::string::npos) << message;
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  expect_contains(parse_error(""), "column 1: not valid JSON");
  expect_contains(parse_error("{} {}"), "not valid JSON");
  expect_contains(parse_error("{\"a\": \"\xff\"}"), "not valid JSON");
}

TEST(ParseJson, NumbersThatOverflowAreNamedWithTheirPlace) {
  EXPECT_EQ(parse_error("{\"a\": 1e999}"),
            "config.json: column 11: not valid JSON: a number is out of range");
}

TEST(ParseJson, KeepsEveryTypeOfValue) {
  const char* text =
      R"({"a":[null,true,-1,18446744073709551615,0.5,"x"],"b":{"c":[],"d":{}},"e":[[1],[2]]})";
  EXPECT_EQ(parse_json(text, "").dump(), text);
  EXPECT_EQ(parse_json(" 7 ", ""), Json(7));
  EXPECT_TRUE(parse_json(text, "")["a"][3].is_number_unsigned());
  EXPECT_TRUE(parse_json(text, "")["a"][4].is_number_float());
}

TEST(ParseJson, NestingEndsBeforeTheStackDoes) {
  const auto nested = [](std::size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  EXPECT_NO_THROW(parse_json(nested(100), ""));
  EXPECT_EQ(parse_error(nested(101)), "config.json: JSON is nested deeper than 100");
  EXPECT_EQ(parse_error(std::string(200'000, '[')), "config.json: JSON is nested deeper than 100");
}

TEST(ParseJson, ReadsFiles) {
  const TempFolder folder;
  const auto good = folder.write("a.json", R"({"a": 5})");
  EXPECT_EQ(read_json(good)["a"], 5);
  EXPECT_EQ(read_json(good, StopFn())["a"], 5);
  const auto bad = folder.write("b.json", "[1, 2");
  expect_contains(message_of<Error>([&] { read_json(bad); }), bad.string());
}

TEST(ParseJson, ContentOfAnotherKindIsNamed) {
  const auto error_of = [](std::string_view content) {
    return message_of<Error>([&] { parse_json_file(content, "a.json"); });
  };
  EXPECT_EQ(parse_json_file("[7]", "a.json")[0], 7);
  EXPECT_EQ(error_of("GGUF\1"), "'a.json' is a GGUF file, not a JSON file");
  expect_contains(error_of("<html>"), "'a.json' is a web page (HTML)");
  expect_contains(error_of("[1, 2"), "a.json: column 6: not valid JSON");
}

TEST(ParseJson, ReadsPipesAndStopsWaitingForThem) {
  const TempFolder folder;
  const auto fifo = folder.make_fifo();
  std::thread writer([&] { std::ofstream(fifo) << "{\"a\": 5}"; });
  EXPECT_EQ(read_json(fifo, StopFn())["a"], 5);
  writer.join();
  EXPECT_THROW(read_json(fifo, [] { return true; }), Cancelled);
  expect_contains(message_of<Error>([&] { read_json(fifo); }), "is a named pipe");
}

TEST(ParseJson, RefusesFilesThatAreTooLong) {
  const TempFolder folder;
  const auto hole = folder.write("hole.json", "{");
  std::filesystem::resize_file(hole, std::uintmax_t{40} << 30);
  const std::string wanted = "hole.json': wanted a ";
  expect_contains(message_of<Error>([&] { read_json(hole); }), wanted);
  expect_contains(message_of<Error>([&] { read_json(hole, StopFn()); }), wanted);
  expect_contains(message_of<Error>([&] { read_json("/dev/zero", StopFn()); }), "found more");
}

class Reader : public testing::Test {
 protected:
  const Json json_ = parse_json(R"({
    "depth": 48, "ratio": 1.5, "whole": 2, "name": "mochi", "flag": true, "huge": 18446744073709551615,
    "sizes": [1, -2, 3], "means": [0.5, 1], "flags": [true, false], "mixed": [1, "a"],
    "vae": {"norm_groups": 32, "inner": {"x": 1}}})",
                                "");
  JsonReader reader_{json_, "config.json"};

  template <typename Action>
  static std::string error_of(const Action& action) {
    return message_of<Error>(action);
  }
};

TEST_F(Reader, GivesValuesOrFallbacks) {
  EXPECT_EQ(reader_.get_int("depth", 1), 48);
  EXPECT_EQ(reader_.get_int("absent", 7), 7);
  EXPECT_EQ(reader_.get_float("ratio", 0), 1.5);
  EXPECT_EQ(reader_.get_float("whole", 0), 2.0);
  EXPECT_EQ(reader_.get_string("name", ""), "mochi");
  EXPECT_EQ(reader_.get_string("absent", "default"), "default");
  EXPECT_TRUE(reader_.get_bool("flag", false));
  EXPECT_EQ(reader_.get_ints("sizes", {}), (std::vector<std::int64_t>{1, -2, 3}));
  EXPECT_EQ(reader_.get_ints("absent", {4}), (std::vector<std::int64_t>{4}));
  EXPECT_EQ(reader_.get_floats("means", {}), (std::vector<double>{0.5, 1.0}));
  EXPECT_EQ(reader_.get_bools("flags", {}), (std::vector<bool>{true, false}));
  EXPECT_EQ(reader_.require_int("depth"), 48);
  EXPECT_EQ(reader_.require_float("ratio"), 1.5);
  EXPECT_EQ(reader_.require_string("name"), "mochi");
  EXPECT_TRUE(reader_.has("depth"));
  EXPECT_FALSE(reader_.has("absent"));
}

TEST_F(Reader, RefusesOtherTypes) {
  EXPECT_EQ(error_of([&] { reader_.get_int("ratio", 0); }),
            "config.json: ratio: wanted an integer, found 1.5");
  expect_contains(error_of([&] { reader_.get_int("huge", 0); }), "18446744073709551615");
  expect_contains(error_of([&] { reader_.get_int("flag", 0); }), "wanted an integer, found true");
  expect_contains(error_of([&] { reader_.get_float("name", 0); }), "wanted a number");
  expect_contains(error_of([&] { reader_.get_bool("depth", false); }), "wanted true or false");
  expect_contains(error_of([&] { reader_.get_string("depth", ""); }), "wanted a string, found 48");
  expect_contains(error_of([&] { reader_.get_ints("depth", {}); }), "wanted a list");
  expect_contains(error_of([&] { reader_.get_ints("mixed", {}); }), "mixed[1]: wanted an integer");
  expect_contains(error_of([&] { reader_.require_int("absent"); }), "absent: key is missing");
  expect_contains(error_of([&] { reader_.require_float("absent"); }), "absent: key is missing");
  expect_contains(error_of([&] { reader_.get_object("depth"); }), "depth: wanted an object");
}

TEST_F(Reader, NestedErrorsNameTheDottedPath) {
  auto vae = reader_.get_object("vae");
  ASSERT_TRUE(vae.has_value());
  auto inner = vae->get_object("inner");
  ASSERT_TRUE(inner.has_value());
  EXPECT_EQ(inner->locate("x"), "config.json: vae.inner.x");
  expect_contains(error_of([&] { inner->get_string("x", ""); }), "config.json: vae.inner.x");
  EXPECT_FALSE(reader_.get_object("absent").has_value());
}

TEST_F(Reader, FinishRefusesUnknownKeysWithTheNearest) {
  const Json json = parse_json(R"({"dpeth": 3, "name": "x"})", "");
  JsonReader reader(json, "config.json", "dit");
  reader.get_string("name", "");
  reader.get_int("depth", 1);
  EXPECT_EQ(error_of([&] { reader.finish(); }),
            "config.json: dit.dpeth: unknown key, did you mean 'depth'?");
}

TEST_F(Reader, FinishAcceptsKnownKeys) {
  const Json json = parse_json(R"({"name": "x"})", "");
  JsonReader reader(json, "config.json");
  reader.get_string("name", "");
  reader.get_int("absent", 1);
  EXPECT_NO_THROW(reader.finish());
}

TEST_F(Reader, RootMustBeAnObject) {
  const Json json = parse_json("[1]", "");
  EXPECT_EQ(error_of([&] { const JsonReader reader(json, "config.json"); }),
            "config.json: wanted an object, found [1]");
}

}  // namespace
}  // namespace mochi
