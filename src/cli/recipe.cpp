#include "cli/recipe.h"

#include <algorithm>

#include "base/error.h"
#include "cli/choice.h"
#include "cli/request_json.h"

namespace mochi::cli {
namespace {

namespace fs = std::filesystem;

// A file that the video was made from: {path, size_bytes, fingerprint}, and what the caller reads.
fs::path read_file_record(JsonReader& record) {
  const fs::path path = record.require_string("path");
  record.get_int("size_bytes", 0);
  const std::string wanted = record.require_string("fingerprint");
  const std::string found = fingerprint_file(path);
  if (found != wanted) {
    fail("'{}' has changed since: wanted fingerprint {}, found {}", path.string(), wanted, found);
  }
  return path;
}

std::optional<fs::path> read_optional_file(JsonReader& parent, const char* key) {
  std::optional<JsonReader> record = parent.get_object(key);
  if (!record) return std::nullopt;
  fs::path path = read_file_record(*record);
  record->finish();
  return path;
}

JsonReader require_object(JsonReader& reader, const std::string& key) {
  std::optional<JsonReader> object = reader.get_object(key);
  if (!object) fail("{}: key is missing", reader.locate(key));
  return *object;
}

// The objects of a list in the model's section; `json` is the whole file.
std::vector<JsonReader> read_list(const Json& json, const JsonReader& model, const char* key) {
  const Json& section = json.at("model");
  const auto found = section.find(key);
  if (found == section.end()) return {};
  if (!found->is_array()) fail("{}: wanted a list", model.locate(key));
  std::vector<JsonReader> items;
  for (const Json& item : *found) items.emplace_back(item, model.locate(key));
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

// `json` is the whole file.
void read_request(const Json& json, JsonReader request, GenerateOptions& options) {
  read_request_fields(request, options);
  options.noise_file = read_optional_file(request, "noise");
  if (request.get_object("sparsity")) {
    options.sparsity =
        parse_sparsity_config(json.at("request").at("sparsity").dump(), request.locate("sparsity"))
            .config;
  }
  request.finish();
}

}  // namespace

Recipe parse_recipe(const Json& json, const std::string& source) {
  JsonReader root(json, source);
  Recipe recipe;
  recipe.source = source;
  JsonReader video = require_object(root, "video");
  recipe.output = video.require_string("file");
  const std::int64_t fps = video.require_int("fps");
  if (fps < 1 || fps > kMaxFps) {
    fail("{}: wanted 1 to {}, found {}", video.locate("fps"), kMaxFps, fps);
  }
  GenerateOptions& options = recipe.options;
  options.fps = static_cast<int>(fps);
  options.latents_file = read_optional_file(root, "latents");
  if (!options.latents_file) read_request(json, require_object(root, "request"), options);
  JsonReader model = require_object(root, "model");
  options.engine.model_dir = model.require_string("dir");
  options.engine.random_weights = parse_choice<Error>(
      kRandomWeights, model.get_string("random_weights", "none"), model.locate("random_weights"));
  recipe.model_files = read_model_files(read_list(json, model, "files"));
  options.engine.loras = read_loras(read_list(json, model, "loras"));
  JsonReader engine = require_object(root, "engine");
  // A video made on a GPU is made on one again where there is one; elsewhere a CPU will do.
  const DeviceKind device =
      parse_choice<Error>(kDeviceKinds, engine.require_string("device"), engine.locate("device"));
  options.engine.device = device == DeviceKind::kCuda ? DeviceKind::kAuto : device;
  options.engine.precision =
      parse_choice<Error>(kPrecisions, engine.require_string("dtype"), engine.locate("dtype"));
  return recipe;
}

void check_model_files(const Recipe& recipe, const Engine& engine) {
  const std::vector<ModelFile> found = engine.model().files();
  for (const ModelFile& wanted : recipe.model_files) {
    const auto at = std::ranges::find(found, wanted.name, &ModelFile::name);
    if (at == found.end()) {
      fail("{}: the video was made with the model file '{}', which is gone", recipe.source,
           wanted.name);
    }
    if (at->fingerprint != wanted.fingerprint) {
      fail("{}: the model file '{}' has changed since: wanted fingerprint {}, found {}",
           recipe.source, wanted.name, wanted.fingerprint, at->fingerprint);
    }
  }
}

}  // namespace mochi::cli
