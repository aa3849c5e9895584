#include "job/recipe.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/temp_folder.h"
#include "job/field_value.h"

namespace mochi::job {
namespace {

MadeWith make_with() {
  return {.model_files = {{"decoder.safetensors", 10, "d"}, {"dit.safetensors", 20, "t"}},
          .engine = {.device = DeviceKind::kCpu,
                     .device_name = "CPU",
                     .device_note = "",
                     .precision = Precision::kBf16,
                     .num_threads = 2}};
}

Recipe make_recipe() {
  Recipe recipe;
  recipe.output = "v.y4m";
  recipe.size = {64, 48, 7};
  recipe.request.prompt = "a ball";
  recipe.request.num_steps = 4;
  recipe.request.seed = 3;
  recipe.request.fps = FrameRate{24'000, 1001};
  recipe.engine.model_dir = "/models/m";
  return recipe;
}

Json describe(const Recipe& recipe) { return Json(describe_recipe(recipe, make_with())); }

std::string recipe_error(const Json& json) {
  return message_of<Error>([&] { parse_recipe(json, "v.json"); });
}

TEST(Recipe, IsReadBack) {
  const TempFolder folder;
  Recipe recipe = make_recipe();
  recipe.engine.loras = {{folder.write("l.safetensors", "x"), 0.5}};
  const Recipe again = parse_recipe(describe(recipe), "v.json");
  EXPECT_EQ(again.output, "v.y4m");
  EXPECT_EQ(again.request.prompt, "a ball");
  EXPECT_EQ(again.request.fps, (FrameRate{24'000, 1001}));
  EXPECT_EQ(again.engine.model_dir, "/models/m");
  EXPECT_EQ(again.engine.device, DeviceKind::kCpu);
  EXPECT_EQ(again.engine.precision, Precision::kBf16);
  ASSERT_EQ(again.engine.loras.size(), 1U);
  EXPECT_EQ(again.engine.loras[0].scale, 0.5);
  ASSERT_EQ(again.model_files.size(), 2U);
  EXPECT_EQ(again.model_files[1].fingerprint, "t");
}

TEST(Recipe, CheckpointsStateFurtherOutputsOfTheRun) {
  Recipe recipe = make_recipe();
  EXPECT_TRUE(describe_run(recipe).empty());
  recipe.save_latents = "l.safetensors";
  recipe.checkpoint_every = 3;
  Json json = describe(recipe);
  json["run"] = describe_run(recipe);
  const Recipe again = parse_recipe(json, "v.json");
  EXPECT_EQ(again.save_latents, std::filesystem::absolute("l.safetensors"));
  EXPECT_EQ(again.checkpoint_every, 3);
}

TEST(Recipe, TheFirstVersionIsRead) {
  const auto path =
      std::filesystem::path(MOCHI_SOURCE_DIR) / "tests" / "job" / "sidecar_0.1.0.json";
  const Recipe recipe = parse_recipe(read_json(path), path.string());
  EXPECT_EQ(recipe.output, "old.y4m");
  EXPECT_EQ(recipe.request.prompt, "a red ball");
  EXPECT_EQ(recipe.request.num_frames, 7);
  EXPECT_EQ(recipe.request.cfg_scale, 3.0);
  EXPECT_EQ(recipe.request.linear_steps, 2);
  EXPECT_EQ(recipe.request.seed, 0U);
  EXPECT_EQ(recipe.request.noise_source, NoiseSource::kMochi);
  EXPECT_EQ(recipe.request.fps, (FrameRate{24, 1}));
  ASSERT_TRUE(recipe.request.sparsity);
  EXPECT_EQ(recipe.request.sparsity->attn.delta, DeltaKind::kHalfMerge);
  EXPECT_EQ(recipe.engine.precision, Precision::kFp32);
  EXPECT_EQ(recipe.model_files.size(), 6U);
}

TEST(Recipe, ErrorsNameTheFileAndTheKey) {
  const auto change = [](const char* section, const char* key, const Json& value) {
    Json json = describe(make_recipe());
    json[section][key] = value;
    return recipe_error(json);
  };
  expect_contains(change("request", "num_steps", -1), "v.json: request.num_steps: wanted 1 to");
  expect_contains(change("request", "promt", "x"), "v.json: request.promt: unknown key");
  expect_contains(change("engine", "dtype", "int3"),
                  "v.json: engine.dtype: wanted auto, fp32, bf16, found 'int3'");
  expect_contains(change("engine", "device", "tpu"), "v.json: engine.device: wanted auto, cpu");
  expect_contains(change("model", "random_weights", "x"), "v.json: model.random_weights: wanted");
  expect_contains(change("model", "files", 3), "v.json: model.files: wanted a list");
  expect_contains(change("video", "fps", "many"), "v.json: video.fps: wanted a number");
  expect_contains(change("run", "checkpoint_every", -1), "v.json: run.checkpoint_every: wanted 0");
  Json json = describe(make_recipe());
  json["video"].erase("fps");
  expect_contains(recipe_error(json), "v.json: video.fps: key is missing");
  json = describe(make_recipe());
  json.erase("request");
  expect_contains(recipe_error(json), "v.json: request: key is missing");
  expect_contains(recipe_error(Json::array()), "v.json: wanted an object");
}

TEST(Recipe, IsReadForDecodingWithoutTheFilesOfItsRequest) {
  const TempFolder folder;
  Recipe recipe = make_recipe();
  recipe.request.noise = folder.write("n.safetensors", "x");
  const Json json = describe(recipe);
  std::filesystem::remove(folder / "n.safetensors");
  EXPECT_THROW(parse_recipe(json, "l"), Error);
  EXPECT_EQ(parse_recipe_for_decoding(json, "l").request.fps, (FrameRate{24'000, 1001}));
}

TEST(CheckModelFiles, NamesAFileThatHasChangedOrNoLongerExists) {
  const Recipe recipe = parse_recipe(describe(make_recipe()), "v.json");
  std::vector<ModelFile> found = make_with().model_files;
  EXPECT_NO_THROW(check_model_files(recipe, found));
  found[1].fingerprint = "other";
  expect_contains(message_of<Error>([&] { check_model_files(recipe, found); }),
                  "v.json: the model file 'dit.safetensors' has changed since");
  found.pop_back();
  expect_contains(message_of<Error>([&] { check_model_files(recipe, found); }),
                  "'dit.safetensors', which no longer exists");
}

TEST(CheckDecoder, RefusesLatentsOfAnotherModel) {
  const Recipe recipe = parse_recipe(describe(make_recipe()), "l.safetensors");
  std::vector<ModelFile> found = make_with().model_files;
  found[1].fingerprint = "a transformer trained further";
  EXPECT_NO_THROW(check_decoder(recipe, found));
  found[0].name = "vae/diffusion_pytorch_model.safetensors";  // the same file elsewhere
  EXPECT_NO_THROW(check_decoder(recipe, found));
  found[0].fingerprint = "other";
  expect_contains(message_of<Error>([&] { check_decoder(recipe, found); }),
                  "'l.safetensors': the latents belong to another model, that of '/models/m'");
}

}  // namespace
}  // namespace mochi::job
