#include "cli/request_json.h"

#include <limits>
#include <utility>

#include "base/error.h"
#include "cli/choice.h"

namespace mochi::cli {
namespace {

void read_int(JsonReader& reader, const char* key, std::optional<int>& field) {
  const std::int64_t value = reader.get_int(key, 0);
  if (!std::in_range<int>(value)) {
    fail("{}: wanted {} to {}, found {}", reader.locate(key), std::numeric_limits<int>::min(),
         std::numeric_limits<int>::max(), value);
  }
  if (reader.has(key)) field = static_cast<int>(value);
}

void read_float(JsonReader& reader, const char* key, std::optional<double>& field) {
  const double value = reader.get_float(key, 0);
  if (reader.has(key)) field = value;
}

void read_string(JsonReader& reader, const char* key, std::optional<std::string>& field) {
  std::string value = reader.get_string(key, "");
  if (reader.has(key)) field = std::move(value);
}

}  // namespace

void read_request_fields(JsonReader& reader, GenerateOptions& options) {
  read_string(reader, "prompt", options.prompt);
  read_string(reader, "negative_prompt", options.negative_prompt);
  read_int(reader, "width", options.width);
  read_int(reader, "height", options.height);
  read_int(reader, "num_frames", options.num_frames);
  const std::uint64_t seed = reader.get_uint("seed", 0);
  if (reader.has("seed")) options.seed = seed;
  read_int(reader, "num_steps", options.num_steps);
  read_float(reader, "cfg_scale", options.cfg_scale);
  options.cfg_schedule = reader.get_floats("cfg_schedule", std::move(options.cfg_schedule));
  read_float(reader, "threshold_noise", options.threshold_noise);
  read_int(reader, "linear_steps", options.linear_steps);
  std::optional<std::string> source;
  read_string(reader, "noise_source", source);
  if (source) {
    options.noise_source =
        parse_choice<Error>(kNoiseSources, *source, reader.locate("noise_source"));
  }
}

}  // namespace mochi::cli
