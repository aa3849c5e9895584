#include "job/recipe.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"
#include "job/field_value.h"

namespace mochi::job {
namespace {

using OrderedJson = nlohmann::ordered_json;
namespace fs = std::filesystem;

// ---- writing ----

OrderedJson describe_model(const Recipe& recipe, const Engine& engine) {
  OrderedJson files = OrderedJson::array();
  for (const ModelFile& file : engine.model_files()) {
    files.push_back(
        {{"name", file.name}, {"size_bytes", file.size_bytes}, {"fingerprint", file.fingerprint}});
  }
  OrderedJson loras = OrderedJson::array();
  for (const Lora& lora : recipe.engine.loras) {
    OrderedJson described = describe_file(lora.path);
    described["scale"] = lora.scale;
    loras.push_back(described);
  }
  const fs::path& dir = recipe.engine.model_dir;
  OrderedJson json{{"dir", dir.empty() ? "" : path_text(fs::absolute(dir).lexically_normal())}};
  if (!recipe.engine.random_weights.empty()) json["random_weights"] = recipe.engine.random_weights;
  json["files"] = files;
  json["loras"] = loras;
  return json;
}

OrderedJson describe_run(const Recipe& recipe) {
  OrderedJson json = OrderedJson::object();
  if (recipe.save_latents) {
    json["save_latents"] = path_text(fs::absolute(*recipe.save_latents).lexically_normal());
  }
  if (recipe.checkpoint_every > 0) json["checkpoint_every"] = recipe.checkpoint_every;
  return json;
}

// ---- reading ----

JsonReader require_object(JsonReader& reader, const std::string& key) {
  std::optional<JsonReader> object = reader.get_object(key);
  if (!object) fail("{}: key is missing", reader.locate(key));
  return *object;
}

// The objects of a list in the model's section.
std::vector<JsonReader> read_list(JsonReader& model, const char* key) {
  const Json* list = model.get_json(key);
  if (list == nullptr) return {};
  if (!list->is_array()) fail("{}: wanted a list", model.locate(key));
  std::vector<JsonReader> items;
  for (const Json& item : *list) items.emplace_back(item, model.locate(key));
  return items;
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

std::string read_choice(JsonReader& reader, const char* key, std::span<const char* const> choices) {
  std::string value = reader.require_string(key);
  if (std::ranges::find(choices, value) != choices.end()) return value;
  fail("{}: wanted {}, found '{}'", reader.locate(key), fmt::join(choices, ", "), value);
}

void read_engine(JsonReader& root, EngineOptions& options) {
  JsonReader engine = require_object(root, "engine");
  // A video made on a GPU is made on one again if the machine has one, otherwise on the CPU.
  const std::string device = read_choice(engine, "device", std::array{"auto", "cpu", "cuda"});
  options.device = device == "cuda" ? "auto" : device;
  options.dtype = read_choice(engine, "dtype", std::array{"auto", "fp32", "bf16"});
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

bool is_decoder(const ModelFile& file) {
  return file.name.find("vae") != std::string::npos ||
         file.name.find("decoder") != std::string::npos;
}

}  // namespace

OrderedJson describe_recipe(const Recipe& recipe, const Engine& engine) {
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
  json["model"] = describe_model(recipe, engine);
  json["engine"] = {{"device", engine.device()},
                    {"device_name", engine.device_name()},
                    {"dtype", engine.dtype()},
                    {"num_threads", engine.num_threads()}};
  const OrderedJson run = describe_run(recipe);
  if (!run.empty()) json["run"] = run;
  return json;
}

Recipe parse_recipe(const Json& json, const std::string& source) {
  JsonReader root(json, source);
  Recipe recipe = parse_recipe_for_decoding(json, source);
  recipe.latents_file = read_latents_record(root);
  if (!recipe.latents_file) {
    JsonReader request = require_object(root, "request");
    recipe.request = overlay(recipe.request, read_request(request));
    request.finish();
  }
  JsonReader model = require_object(root, "model");
  recipe.engine.loras = read_loras(read_list(model, "loras"));
  read_run(root, recipe);
  return recipe;
}

Recipe parse_recipe_for_decoding(const Json& json, const std::string& source) {
  JsonReader root(json, source);
  Recipe recipe;
  recipe.source = source;
  read_video(root, recipe);
  JsonReader model = require_object(root, "model");
  recipe.engine.model_dir = model.require_string("dir");
  recipe.engine.random_weights = model.get_string("random_weights", "");
  recipe.model_files = read_model_files(read_list(model, "files"));
  read_engine(root, recipe.engine);
  return recipe;
}

void check_model_files(const Recipe& recipe, const Engine& engine) {
  const std::vector<ModelFile> found = engine.model_files();
  for (const ModelFile& wanted : recipe.model_files) {
    const auto at = std::ranges::find(found, wanted.name, &ModelFile::name);
    if (at == found.end()) {
      fail("{}: the video was made with the model file '{}', which no longer exists",
           recipe.source, wanted.name);
    }
    if (at->fingerprint != wanted.fingerprint) {
      fail("{}: the model file '{}' has changed since: wanted fingerprint {}, found {}",
           recipe.source, wanted.name, wanted.fingerprint, at->fingerprint);
    }
  }
}

void check_decoder(const Recipe& recipe, const Engine& engine) {
  std::vector<std::string> found;
  for (const ModelFile& file : engine.model_files()) {
    if (is_decoder(file)) found.push_back(file.fingerprint);
  }
  for (const ModelFile& wanted : recipe.model_files) {
    if (!is_decoder(wanted) || std::ranges::find(found, wanted.fingerprint) != found.end()) continue;
    fail("'{}': the latents belong to another model, that of '{}', whose '{}' has fingerprint {}",
         recipe.source, recipe.engine.model_dir.string(), wanted.name, wanted.fingerprint);
  }
}

}  // namespace mochi::job
