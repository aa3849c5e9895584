#include "cli/sweep.h"

#include <fmt/format.h>

#include <fstream>

#include "base/error.h"
#include "cli/request_json.h"

namespace mochi::cli {
namespace {

namespace fs = std::filesystem;

void read_path(JsonReader& reader, const char* key, std::optional<fs::path>& field) {
  const std::string value = reader.get_string(key, "");
  if (reader.has(key)) field = value;
}

}  // namespace

GenerateOptions parse_sweep_line(const std::string& line, const std::string& source,
                                 const GenerateOptions& base) {
  const Json json = parse_json(line, source);
  JsonReader reader(json, source);
  GenerateOptions own;
  read_request_fields(reader, own);
  const std::int64_t fps = reader.get_int("fps", 0);
  if (reader.has("fps")) {
    if (fps < 1 || fps > kMaxFps) {
      fail("{}: wanted 1 to {}, found {}", reader.locate("fps"), kMaxFps, fps);
    }
    own.fps = static_cast<int>(fps);
  }
  read_path(reader, "noise", own.noise_file);
  read_path(reader, "chipmunk_config", own.chipmunk_config);
  own.is_dense = reader.get_bool("no_sparsity", false);
  if (own.is_dense && own.chipmunk_config) {
    fail("{}: has no effect with no_sparsity", reader.locate("chipmunk_config"));
  }
  read_path(reader, "out", own.output);
  read_path(reader, "save_latents", own.save_latents);
  reader.finish();
  return overlay(base, own);
}

std::vector<SweepVideo> read_sweep_file(const fs::path& path, const GenerateOptions& base) {
  std::ifstream file(path);
  if (!file) fail("cannot open '{}'", path.string());
  std::vector<SweepVideo> videos;
  std::string line;
  for (int line_idx = 1; std::getline(file, line); ++line_idx) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const std::string source = fmt::format("{}:{}", path.string(), line_idx);
    videos.push_back({source, parse_sweep_line(line, source, base)});
  }
  if (file.bad()) fail("cannot read '{}'", path.string());
  if (videos.empty()) fail("'{}': wanted a JSON object a line, found none", path.string());
  return videos;
}

}  // namespace mochi::cli
