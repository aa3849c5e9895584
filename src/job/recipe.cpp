#include "job/recipe.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"
#include "job/compute_table.h"
#include "job/field_value.h"
#include "job/json_values.h"

namespace mochi::job {
namespace {

using OrderedJson = nlohmann::ordered_json;
namespace fs = std::filesystem;

// ---- writing ----

OrderedJson describe_model(const Recipe& recipe, const std::vector<ModelFile>& model_files) {
  OrderedJson files = OrderedJson::array();
  for (const ModelFile& file : model_files) {
    files.push_back({{"name", path_text(file.name)},
                     {"size_bytes", file.size_bytes},
                     {"fingerprint", file.fingerprint}});
  }
  OrderedJson loras = OrderedJson::array();
  for (const Lora& lora : recipe.engine.loras) {
    OrderedJson described = describe_file(lora.path);
    described["scale"] = lora.scale;
    loras.push_back(described);
  }
  const fs::path& dir = recipe.engine.model_dir;
  OrderedJson json{{"dir", dir.empty() ? "" : path_text(fs::absolute(dir).lexically_normal())}};
  visit_paths(recipe.engine.paths, [&json](const char* field, const fs::path& path) {
    if (!path.empty()) json[field] = path_text(fs::absolute(path).lexically_normal());
  });
  if (recipe.engine.random_weights != RandomWeights::kNone) {
    json["random_weights"] = name_of(recipe.engine.random_weights);
  }
  json["files"] = files;
  json["loras"] = loras;
  return json;
}

// ---- reading ----

constexpr int kCountOfSteps = 10'000;  // more than any sampling has

JsonReader require_object(JsonReader& reader, const std::string& key) {
  std::optional<JsonReader> object = reader.get_object(key);
  if (!object) fail("{}: key is missing", reader.locate(key));
  return *object;
}

std::vector<ModelFile> read_model_files(std::vector<JsonReader> items) {
  std::vector<ModelFile> files;
  files.reserve(items.size());
  for (JsonReader& item : items) {
    files.push_back({item.require_string("name"), item.get_uint("size_bytes", 0),
                     item.require_string("fingerprint")});
  }
  return files;
}

std::vector<Lora> read_loras(std::vector<JsonReader> items) {
  std::vector<Lora> loras;
  loras.reserve(items.size());
  for (JsonReader& item : items) {
    loras.push_back({read_file_record(item), item.get_float("scale", 1.0)});
  }
  return loras;
}

void read_engine(JsonReader& root, EngineOptions& options) {
  JsonReader engine = require_object(root, "engine");
  // A video made on a GPU is made on one again if the machine has one, otherwise on the CPU.
  const DeviceKind device = read_choice(engine, "device", kDeviceKinds);
  options.device = device == DeviceKind::kCuda ? DeviceKind::kAuto : device;
  options.precision = read_choice(engine, "dtype", kPrecisions);
  if (engine.has("weights")) options.weights = read_choice(engine, "weights", kWeightFormats);
  options.compute = read_compute(engine);
}

void read_model(JsonReader& root, Recipe& recipe) {
  JsonReader model = require_object(root, "model");
  recipe.engine.model_dir = model.require_string("dir");
  visit_paths(recipe.engine.paths,
              [&model](const char* field, fs::path& path) { path = model.get_string(field, ""); });
  if (model.has("random_weights")) {
    recipe.engine.random_weights = read_choice(model, "random_weights", kRandomWeights);
  }
  recipe.model_files = read_model_files(read_list(model, "files"));
}

void read_run(JsonReader& root, Recipe& recipe) {
  std::optional<JsonReader> run = root.get_object("run");
  if (!run) return;
  const std::string path = run->get_string("save_latents", "");
  if (!path.empty()) recipe.save_latents = path;
  const std::int64_t every = run->get_int("checkpoint_every", 0);
  if (every < 0 || !std::in_range<int>(every)) {
    fail("{}: wanted 0 or more steps, found {}", run->locate("checkpoint_every"), every);
  }
  recipe.checkpoint_every = static_cast<int>(every);
}

void read_video(JsonReader& root, Recipe& recipe) {
  JsonReader video = require_object(root, "video");
  recipe.output = video.require_string("file");
  video.get_json("fps");
  if (!video.has("fps")) fail("{}: key is missing", video.locate("fps"));
  recipe.request = read_playback(video);
}

std::optional<fs::path> read_latents_record(JsonReader& root) {
  std::optional<JsonReader> record = root.get_object("latents");
  if (!record) return std::nullopt;
  fs::path path = read_file_record(*record);
  record->finish();
  return path;
}

std::set<int> read_evaluated_steps(JsonReader& root) {
  std::optional<JsonReader> sampling = root.get_object("sampling");
  if (!sampling) return {};
  const Json* list = sampling->get_json("evaluated_steps");
  if (list == nullptr) return {};
  std::set<int> steps;
  const auto is_step = [](const Json& item) {
    return item.is_number_integer() && item >= 0 && item < kCountOfSteps;
  };
  if (!list->is_array() || !std::ranges::all_of(*list, is_step)) {
    fail("{}: wanted a list of steps", sampling->locate("evaluated_steps"));
  }
  for (const Json& item : *list) steps.insert(item.get<int>());
  return steps;
}

// The name of the file and of the folder that it lies in decide.
bool is_decoder(const ModelFile& file) {
  const fs::path path = file.name;
  const std::string name = (path.parent_path().filename() / path.filename()).string();
  return name.find("vae") != std::string::npos || name.find("decoder") != std::string::npos;
}

}  // namespace

MadeWith made_with(const Engine& engine) { return {engine.model().files(), engine.info()}; }

OrderedJson describe_run(const Recipe& recipe) {
  OrderedJson json = OrderedJson::object();
  if (recipe.save_latents) {
    json["save_latents"] = path_text(fs::absolute(*recipe.save_latents).lexically_normal());
  }
  if (recipe.checkpoint_every > 0) json["checkpoint_every"] = recipe.checkpoint_every;
  return json;
}

OrderedJson describe_recipe(const Recipe& recipe, const MadeWith& with) {
  OrderedJson json{{"made_by", "mochi.cpp"}, {"version", version()}};
  json["video"] = {{"file", path_text(recipe.output)},
                   {"width", recipe.size.width},
                   {"height", recipe.size.height},
                   {"num_frames", recipe.size.num_frames}};
  write_field(json["video"], recipe.request, "fps");
  if (recipe.latents_file) {
    json["latents"] = describe_file(*recipe.latents_file);
  } else {
    json["request"] = describe_request(recipe.request);
  }
  json["model"] = describe_model(recipe, with.model_files);
  const EngineInfo& info = with.engine;
  json["engine"] = {{"device", name_of(info.device)},
                    {"device_name", info.device_name},
                    {"dtype", name_of(info.precision)},
                    {"num_threads", info.num_threads}};
  if (recipe.engine.weights) json["engine"]["weights"] = name_of(*recipe.engine.weights);
  if (recipe.engine.compute) describe_compute(*recipe.engine.compute, json["engine"]);
  return json;
}

Recipe parse_recipe(const Json& json, const std::string& source) {
  JsonReader root(json, source);
  Recipe recipe = parse_recipe_for_decoding(json, source);
  recipe.latents_file = read_latents_record(root);
  if (!recipe.latents_file) {
    JsonReader request = require_object(root, "request");
    recipe.request = overlay(recipe.request, read_request(request));
    // Recipes name the steps of their video; `steps` in one is a key that had no effect.
    if (recipe.request.sparsity) recipe.request.sparsity->steps.reset();
    request.finish();
  }
  recipe.evaluated_steps = read_evaluated_steps(root);
  JsonReader model = require_object(root, "model");
  recipe.engine.loras = read_loras(read_list(model, "loras"));
  read_run(root, recipe);
  return recipe;
}

FrameRate Recipe::fps() const {
  if (!request.fps) fail("the recipe of '{}' has no frame rate", output.string());
  return *request.fps;
}

Recipe parse_recipe_for_decoding(const Json& json, const std::string& source) {
  JsonReader root(json, source);
  Recipe recipe;
  recipe.source = source;
  read_video(root, recipe);
  read_model(root, recipe);
  read_engine(root, recipe.engine);
  return recipe;
}

void check_model_files(const Recipe& recipe, const std::vector<ModelFile>& found) {
  for (const ModelFile& wanted : recipe.model_files) {
    const auto at = std::ranges::find(found, wanted.name, &ModelFile::name);
    if (at == found.end()) {
      fail("{}: the video was made with the model file '{}', which no longer exists", recipe.source,
           wanted.name);
    }
    if (at->fingerprint != wanted.fingerprint) {
      fail("{}: the model file '{}' has changed since: wanted fingerprint {}, found {}",
           recipe.source, wanted.name, wanted.fingerprint, at->fingerprint);
    }
  }
}

std::vector<ModelFile> decoder_files(std::vector<ModelFile> files) {
  if (std::ranges::any_of(files, is_decoder)) {
    std::erase_if(files, [](const ModelFile& file) { return !is_decoder(file); });
  }
  return files;
}

void check_decoder(const Recipe& recipe, const std::vector<ModelFile>& found) {
  for (const ModelFile& wanted : recipe.model_files) {
    if (!is_decoder(wanted)) continue;
    if (std::ranges::find(found, wanted.fingerprint, &ModelFile::fingerprint) != found.end())
      continue;
    fail("'{}': the latents belong to another model, that of '{}', whose '{}' has fingerprint {}",
         recipe.source, recipe.engine.model_dir.string(), wanted.name, wanted.fingerprint);
  }
}

}  // namespace mochi::job
