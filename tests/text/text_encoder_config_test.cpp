#include "text/text_encoder_config.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/temp_folder.h"
#include "io/json.h"

namespace mochi {
namespace {

TextEncoderConfig parse(const std::string& text) {
  const Json json = parse_json(text, "config.json");
  JsonReader reader(json, "config.json", "text_encoder");
  return parse_text_encoder_config(reader);
}

std::string error_of(const std::string& text) {
  return message_of<Error>([&] { parse(text); });
}

TEST(TextEncoderConfig, DefaultsAreT5Xxl) {
  const TextEncoderConfig config = parse("{}");
  EXPECT_EQ(config.num_layers, 24);
  EXPECT_EQ(config.hidden_size, 4096);
  EXPECT_EQ(config.feed_forward_size, 10240);
  EXPECT_EQ(config.vocab_size, 32128);
}

TEST(TextEncoderConfig, ReadsItsKeys) {
  const TextEncoderConfig config = parse(R"({"num_layers": 3, "head_dim": 32})");
  EXPECT_EQ(config.num_layers, 3);
  EXPECT_EQ(config.head_dim, 32);
  EXPECT_EQ(config.num_heads, 64);
}

TEST(TextEncoderConfig, RefusesSizesThatDoNotFit) {
  expect_contains(error_of(R"({"num_layer": 3})"), "did you mean 'num_layers'?");
  expect_contains(error_of(R"({"num_heads": 0})"), "text_encoder.num_heads: wanted 1 to");
  expect_contains(error_of(R"({"num_layers": 1025})"), "text_encoder.num_layers: wanted 1 to 1024");
  expect_contains(error_of(R"({"num_buckets": 30})"), "multiple of 4");
  expect_contains(error_of(R"({"max_distance": 8})"), "text_encoder.max_distance");
}

}  // namespace
}  // namespace mochi
