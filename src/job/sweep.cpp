#include "job/sweep.h"

#include <fmt/format.h>

#include <sstream>

#include "base/error.h"
#include "base/file_kind.h"
#include "base/text_file.h"
#include "job/field_value.h"

namespace mochi::job {
namespace {

namespace fs = std::filesystem;

void read_path(JsonReader& reader, const char* key, std::optional<fs::path>& field) {
  const std::string value = reader.get_string(key, "");
  if (!reader.has(key)) return;
  if (value.empty()) fail("{}: wanted a file, found ''", reader.locate(key));
  field = value;
}

JobOptions read_line(const std::string& line, const std::string& source) {
  const Json json = parse_json(line, source);
  JsonReader reader(json, source);
  JobOptions own;
  own.request = read_request(reader);
  if (own.request.no_sparsity.value_or(false) && own.request.chipmunk_config) {
    fail("{}: has no effect with no_sparsity", reader.locate("chipmunk_config"));
  }
  read_path(reader, "out", own.output);
  read_path(reader, "save_latents", own.save_latents);
  reader.finish();
  return own;
}

// A line cannot set options of the machine.
JobOptions lay_over(const JobOptions& base, const JobOptions& own) {
  JobOptions options = overlay(base, own);
  options.engine = base.engine;
  return options;
}

}  // namespace

JobOptions parse_sweep_line(const std::string& line, const std::string& source,
                            const JobOptions& base) {
  return lay_over(base, read_line(line, source));
}

std::vector<SweepVideo> read_sweep_file(const fs::path& path, const JobOptions& base,
                                        const StopFn& should_stop) {
  constexpr std::size_t kMaxBytes = 64U << 20U;
  const std::string content = read_text_file(path, kMaxBytes, should_stop);
  check_text(path, content, "a file of JSON lines");
  std::istringstream text(content);
  std::vector<SweepVideo> videos;
  std::string line;
  for (int line_idx = 1; std::getline(text, line); ++line_idx) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const std::string source = fmt::format("{}:{}", path.string(), line_idx);
    const JobOptions own = read_line(line, source);
    videos.push_back({source, own.request, lay_over(base, own)});
  }
  if (videos.empty()) fail("'{}': wanted one JSON object per line, found none", path.string());
  return videos;
}

}  // namespace mochi::job
