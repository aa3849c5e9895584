#include "cli/request_json.h"

#include <utility>

#include "base/error.h"

namespace mochi::cli {
namespace {

template <typename Integer>
void read_integer(JsonReader& reader, const char* key, std::optional<Integer>& field) {
  if (!reader.has(key)) {
    reader.get_int(key, 0);  // known, though absent
    return;
  }
  const std::int64_t value = reader.get_int(key, 0);
  if (!std::in_range<Integer>(value)) {
    fail("{}: wanted {} to {}, found {}", reader.locate(key), std::numeric_limits<Integer>::min(),
         std::numeric_limits<Integer>::max(), value);
  }
  field = static_cast<Integer>(value);
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
  read_integer(reader, "width", options.width);
  read_integer(reader, "height", options.height);
  read_integer(reader, "num_frames", options.num_frames);
  read_integer(reader, "seed", options.seed);
  read_integer(reader, "num_steps", options.num_steps);
  read_float(reader, "cfg_scale", options.cfg_scale);
  options.cfg_schedule = reader.get_floats("cfg_schedule", std::move(options.cfg_schedule));
  read_float(reader, "threshold_noise", options.threshold_noise);
  read_integer(reader, "linear_steps", options.linear_steps);
  read_string(reader, "noise_source", options.noise_source);
}

}  // namespace mochi::cli
