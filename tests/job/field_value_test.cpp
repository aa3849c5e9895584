#include "job/field_value.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/temp_folder.h"

namespace mochi::job {
namespace {

Request parse_text(const std::string& field, const std::string& text) {
  Request request;
  set_from_text(request, field, text);
  return request;
}

std::string text_error(const std::string& field, const std::string& text) {
  return message_of<InvalidRequest>([&] { parse_text(field, text); });
}

Request parse(const std::string& text) {
  const Json json = parse_json(text, "line 1");
  JsonReader reader(json, "line 1");
  Request request = read_request(reader);
  reader.finish();
  return request;
}

std::string json_error(const std::string& text) {
  return message_of<Error>([&] { parse(text); });
}

TEST(SetFromText, ReadsEachType) {
  EXPECT_EQ(parse_text("prompt", " a ball ").prompt, " a ball ");
  EXPECT_EQ(parse_text("width", "64").width, 64);
  EXPECT_EQ(parse_text("seed", "18446744073709551615").seed, 18446744073709551615U);
  EXPECT_EQ(parse_text("cfg_scale", "-1.5").cfg_scale, -1.5);
  EXPECT_EQ(parse_text("cfg_schedule", "6,4.5,1").cfg_schedule, (std::vector<double>{6, 4.5, 1}));
  EXPECT_EQ(parse_text("noise_source", "torch-cpu").noise_source, NoiseSource::kTorchCpu);
  EXPECT_EQ(parse_text("noise", "n.safetensors").noise, "n.safetensors");
  EXPECT_EQ(parse_text("no_sparsity", "true").no_sparsity, true);
  EXPECT_EQ(parse_text("fps", "24000/1001").fps, (FrameRate{24'000, 1001}));
}

TEST(SetFromText, RandomSeedsDiffer) {
  EXPECT_NE(parse_text("seed", "random").seed, parse_text("seed", "random").seed);
}

TEST(SetFromText, RefusesOtherTextsNamingTheField) {
  expect_contains(text_error("width", "6x"), "width: wanted an integer, found '6x'");
  expect_contains(text_error("width", ""), "width: wanted an integer, found ''");
  expect_contains(text_error("seed", "-1"), "seed: wanted 0 to 18446744073709551615");
  expect_contains(text_error("num_steps", "0"), "num_steps: wanted 1 to 10000, found 0");
  expect_contains(text_error("cfg_scale", "nan"), "cfg_scale: wanted a finite number");
  expect_contains(text_error("cfg_schedule", "6,,1"), "cfg_schedule: wanted numbers");
  expect_contains(text_error("noise_source", "dice"), "noise_source: wanted mochi|torch-cpu");
  expect_contains(text_error("noise", ""), "noise: wanted a file");
  expect_contains(text_error("fps", "24/0"), "fps: wanted a number or a fraction");
}

TEST(ReadRequest, ReadsEachType) {
  const Request request = parse(R"({"prompt": "a ball", "seed": 18446744073709551615,
      "cfg_schedule": [3, 1.5], "noise_source": "torch-cuda", "noise": "n", "fps": "24000/1001",
      "chipmunk_config": "c.yml", "no_sparsity": false})");
  EXPECT_EQ(request.prompt, "a ball");
  EXPECT_EQ(request.seed, 18446744073709551615U);
  EXPECT_EQ(request.cfg_schedule, (std::vector<double>{3, 1.5}));
  EXPECT_EQ(request.noise_source, NoiseSource::kTorchCuda);
  EXPECT_EQ(request.noise, "n");
  EXPECT_EQ(request.fps, (FrameRate{24'000, 1001}));
  EXPECT_EQ(request.chipmunk_config, "c.yml");
  EXPECT_EQ(request.no_sparsity, false);
  EXPECT_EQ(parse(R"({"fps": 12})").fps, (FrameRate{12, 1}));
  EXPECT_TRUE(parse(R"({"seed": "random"})").seed);
}

TEST(ReadRequest, RefusesOtherValuesNamingTheKey) {
  expect_contains(json_error(R"({"promt": "x"})"), "line 1: promt: unknown key");
  expect_contains(json_error(R"({"num_steps": -1})"), "line 1: num_steps: wanted 1 to 10000");
  expect_contains(json_error(R"({"width": 5000000000})"),
                  "line 1: width: wanted -2147483648 to 2147483647, found 5000000000");
  expect_contains(json_error(R"({"seed": "rand"})"), "line 1: seed: wanted");
  expect_contains(json_error(R"({"fps": 0})"), "line 1: fps: wanted");
  expect_contains(json_error(R"({"fps": []})"), "line 1: fps: wanted");
  expect_contains(json_error(R"({"cfg_schedule": []})"), "line 1: cfg_schedule: wanted");
  expect_contains(json_error(R"({"noise": ""})"), "line 1: noise: wanted a file");
  expect_contains(json_error(R"({"noise_source": "dice"})"), "line 1: noise_source: wanted");
  expect_contains(json_error(R"({"prompt": null})"), "line 1: prompt: wanted a string");
}

TEST(DescribeRequest, IsReadBackAsTheSameRequest) {
  const TempFolder folder;
  Request request;
  request.prompt = "a \"red\" ball";
  request.width = 64;
  request.seed = 18446744073709551615U;
  request.cfg_schedule = {3, 0.1};
  request.threshold_noise = 0.025;
  request.noise_source = NoiseSource::kTorchCpu;
  request.sparsity = SparsityConfig{};
  const nlohmann::ordered_json json = describe_request(request);
  const Request again = parse(json.dump());
  EXPECT_EQ(describe_request(again), json);
  EXPECT_EQ(again.cfg_schedule, request.cfg_schedule);
  EXPECT_EQ(again.seed, request.seed);
  EXPECT_TRUE(again.sparsity);
}

TEST(DescribeRequest, LeavesOutFieldsWithoutEffect) {
  const TempFolder folder;
  Request request;
  request.seed = 3;
  request.noise = folder.write("n.safetensors", "x");
  request.fps = FrameRate{24, 1};
  const nlohmann::ordered_json json = describe_request(request);
  EXPECT_FALSE(json.contains("seed"));
  EXPECT_FALSE(json.contains("fps"));
  EXPECT_EQ(json["noise"]["size_bytes"], 1);
}

TEST(DescribeFile, IsRefusedWhenTheFileHasChanged) {
  const TempFolder folder;
  Request request;
  request.noise = folder.write("n.safetensors", "x");
  const std::string json = describe_request(request).dump();
  EXPECT_EQ(parse(json).noise, request.noise);
  folder.write("n.safetensors", "y");
  expect_contains(json_error(json), "has changed since");
}

TEST(PathText, RefusesNamesThatAreNotUtf8) {
  EXPECT_EQ(path_text("caf\xc3\xa9.mp4"), "caf\xc3\xa9.mp4");
  expect_contains(message_of<Error>([] { path_text("caf\xe9.mp4"); }),
                  "'caf\\xe9.mp4': wanted a name in UTF-8");
}

}  // namespace
}  // namespace mochi::job
