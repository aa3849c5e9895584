#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "base/nearest.h"
#include "base/utf8.h"
#include "job/field_value.h"
#include "server/number_text.h"
#include "server/video_request.h"

namespace mochi::server {
namespace {

constexpr const char* kBody = "body";  // names the text in errors
constexpr std::string_view kText = "TEXT";
constexpr std::string_view kObject = "OBJECT";
constexpr std::string_view kMore = ",...";  // ends the kind of a list
constexpr std::string_view kFloats = "FLOAT,...";
constexpr std::string_view kNames = "NAME[:SCALE],...";

// A name that a body may have.
struct BodyField {
  std::string_view name;
  std::string_view value;  // its kind, as job::Field has it
  std::string_view field;  // the field of the request that it sets; empty: none or several
};

// Names in addition to those of the request's own fields.
constexpr std::array kOwnFields{
    BodyField{"num_inference_steps", "INT", "num_steps"},
    BodyField{"guidance_scale", "FLOAT", "cfg_scale"},
    BodyField{"model", kText, ""},
    BodyField{"size", "WIDTHxHEIGHT", ""},
    BodyField{"seconds", "FLOAT", ""},
    BodyField{"lora", kNames, ""},
};

// Names that clients of other servers and of the command line know.
struct RefusedField {
  std::string_view name;
  std::string_view reason;
};
constexpr std::array kRefusedFields{
    RefusedField{"input_reference", "this model makes videos from text only"},
    RefusedField{"noise", "wanted no file, since files of the server cannot be named"},
    RefusedField{"chipmunk_config",
                 "wanted no file, since files of the server cannot be named; 'sparsity' takes a "
                 "configuration as an object"},
};

const RefusedField* find_refused(std::string_view name) {
  const auto* const found = std::ranges::find(kRefusedFields, name, &RefusedField::name);
  return found == kRefusedFields.end() ? nullptr : found;
}

std::vector<BodyField> list_body_fields() {
  std::vector<BodyField> fields(kOwnFields.begin(), kOwnFields.end());
  const job::Request request;
  job::visit_request(request, [&](const job::Field& field, const auto& /*value*/, auto /*target*/) {
    if (find_refused(field.name) == nullptr) {
      fields.push_back({field.name, field.value, field.name});
    }
  });
  return fields;
}

const std::vector<BodyField>& body_fields() {
  static const std::vector<BodyField> kFields = list_body_fields();
  return kFields;
}

// Throws HttpError if the field is unknown or refused.
const BodyField& find_body_field(const std::string& name) {
  const auto found = std::ranges::find(body_fields(), name, &BodyField::name);
  if (found != body_fields().end()) return *found;
  if (const RefusedField* refused = find_refused(name)) {
    throw bad_request(name, std::string(refused->reason));
  }
  if (name.starts_with("sparsity[")) {
    throw bad_request(name, "wanted one field 'sparsity', an object in JSON");
  }
  std::vector<std::string> known;
  for (const BodyField& field : body_fields()) known.emplace_back(field.name);
  throw bad_request(name, "unknown field, " + suggest_name(name, known));
}

// Removes the name of a text, and its only line, from an error about the text.
std::string problem_of(const Error& error, const std::string& text_name) {
  const std::string_view message = error.what();
  for (const std::string& begin : {text_name + ": ", text_name + ":1: "}) {
    if (message.starts_with(begin)) return std::string(message.substr(begin.size()));
  }
  return std::string(message);
}

// Runs a call of a library whose errors are the client's. A text that it reads has the name of the
// parameter.
template <typename Call>
auto blame_client(const std::string& param, const Call& call) {
  try {
    return call();
  } catch (const InvalidRequest& error) {
    throw bad_request(param, error.problem());
  } catch (const Error& error) {
    throw bad_request(param, problem_of(error, param));
  }
}

// ---- values ----

// Browsers write the line breaks of a text as CR LF.
std::string with_plain_line_breaks(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (!text.substr(i).starts_with("\r\n")) result += text[i];
  }
  return result;
}

// Returns the index of a control character other than a line break or a tab. Those from U+0080 on
// have two bytes, of which the first is 0xc2. The text must be valid UTF-8.
std::optional<std::size_t> find_control(std::string_view text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto code = static_cast<unsigned char>(text[i]);
    const bool is_c0 = code < 0x20 && text[i] != '\n' && text[i] != '\t';
    const bool is_c1 = code == 0xc2 && static_cast<unsigned char>(text[i + 1]) < 0xa0;
    if (is_c0 || is_c1 || code == 0x7f) return i;
  }
  return std::nullopt;
}

std::size_t count_characters(std::string_view text) {
  const auto is_first = [](char letter) {
    return (static_cast<unsigned char>(letter) & 0xc0U) != 0x80;
  };
  return static_cast<std::size_t>(std::ranges::count_if(text, is_first));
}

std::string check_prompt(const std::string& name, std::string_view text, std::size_t max_length) {
  if (const std::optional<std::size_t> at = find_invalid_utf8(text)) {
    throw bad_request(name, fmt::format("not valid UTF-8 at byte {}", *at));
  }
  std::string prompt = with_plain_line_breaks(text);
  if (const std::optional<std::size_t> at = find_control(prompt)) {
    throw bad_request(name, fmt::format("wanted no control characters, found one at byte {}", *at));
  }
  const std::size_t length = count_characters(prompt);
  if (length > max_length) {
    throw bad_request(name,
                      fmt::format("wanted at most {} characters, found {}", max_length, length));
  }
  return prompt;
}

// Returns the frames that come closest to the duration.
int frames_of(double seconds, const FrameRate& fps) {
  constexpr int kUnit = 6;
  const auto num_units = std::lround((seconds * fps.value() - 1) / kUnit);
  return static_cast<int>(std::max(num_units, 0L)) * kUnit + 1;
}

double parse_seconds(const std::string& text) {
  constexpr double kMaxSeconds = 1 << 16;
  const std::optional<double> seconds = parse_number<double>(text);
  if (!seconds || !(*seconds > 0 && *seconds <= kMaxSeconds)) {
    throw bad_request("seconds", fmt::format("wanted a number above 0 and at most {}, found '{}'",
                                             kMaxSeconds, text));
  }
  return *seconds;
}

SparsityConfig parse_sparsity(const std::string& text) {
  const std::string name = "sparsity";
  const Json json = blame_client(name, [&] { return parse_json(text, name); });
  if (!json.is_object()) {
    throw bad_request(name, fmt::format("wanted an object, found '{}'", text));
  }
  return blame_client(name, [&] {
    SparsityConfig config = parse_sparsity_config(json.dump(), name).config;
    validate(config);
    return config;
  });
}

// ---- bodies as texts ----

struct GivenField {
  const BodyField* field;
  std::string name;  // as the client spells it
  std::vector<std::string> texts;
};

// Clients of forms that have lists write "lora[]" once for each item.
constexpr std::string_view kItem = "[]";

// Returns the name without kItem if the field may have it.
std::string list_name(const std::string& name) {
  if (!name.ends_with(kItem)) return name;
  const std::string list = name.substr(0, name.size() - kItem.size());
  const auto found = std::ranges::find(body_fields(), list, &BodyField::name);
  const bool is_list = found != body_fields().end() && found->value.ends_with(kMore);
  return is_list ? list : name;
}

std::string join_items(const std::vector<std::string>& items) {
  return fmt::format("{}", fmt::join(items, ","));
}

std::vector<GivenField> list_form(std::span<const FormField> form) {
  std::vector<GivenField> given;
  for (const FormField& part : form) {
    const BodyField& field = find_body_field(list_name(part.name));
    if (part.file_name) throw bad_request(part.name, "wanted a text, found a file");
    auto same = std::ranges::find(given, part.name, &GivenField::name);
    if (same == given.end()) same = given.insert(same, {&field, part.name, {}});
    same->texts.push_back(part.value);
  }
  for (GivenField& field : given) {
    const bool has_items = field.name.ends_with(kItem) && field.field->value == kFloats;
    if (has_items) field.texts = {join_items(field.texts)};
  }
  return given;
}

[[noreturn]] void refuse_type(const BodyField& field, const Json& value) {
  throw bad_request(
      std::string(field.name),
      fmt::format("wanted {}, found {}", field.value.empty() ? "true or false" : field.value,
                  value.dump(-1, ' ', false, Json::error_handler_t::replace)));
}

std::string join_numbers(const BodyField& field, const Json& list) {
  std::vector<std::string> items;
  for (const Json& item : list) {
    if (!item.is_number()) refuse_type(field, list);
    items.push_back(item.dump());
  }
  return join_items(items);
}

// Returns a value as a form would state it.
std::string text_of(const BodyField& field, const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_array() && field.value == kFloats) return join_numbers(field, value);
  const bool is_object = field.value == kObject && value.is_object();
  const bool is_scalar = field.value != kText && (value.is_number() || value.is_boolean());
  if (!is_object && !is_scalar) refuse_type(field, value);
  return value.dump();
}

std::vector<std::string> texts_of(const BodyField& field, const Json& value) {
  if (field.value != kNames || !value.is_array()) return {text_of(field, value)};
  std::vector<std::string> texts;
  for (const Json& item : value) {
    if (!item.is_string()) refuse_type(field, value);
    texts.push_back(item.get<std::string>());
  }
  return texts;
}

std::vector<GivenField> list_json(std::string_view text) {
  const Json json = blame_client("", [&] { return parse_json(text, kBody); });
  if (!json.is_object()) throw bad_request("", "body: wanted a JSON object, found another value");
  std::vector<GivenField> given;
  for (const auto& [name, value] : json.items()) {
    if (value.is_null() && find_refused(name) != nullptr) continue;
    const BodyField& field = find_body_field(name);
    if (!value.is_null()) given.push_back({&field, name, texts_of(field, value)});
  }
  return given;
}

// ---- fields of the request ----

class BodyReader {
 public:
  explicit BodyReader(const BodyContext& context) : context_(context) {}

  VideoRequest read(const std::vector<GivenField>& fields) {
    for (const GivenField& given : fields) set(given);
    finish();
    return std::move(result_);
  }

 private:
  void set(const GivenField& given) {
    const std::string_view field = given.field->name;
    if (field == "lora") return set_loras(given);
    if (given.texts.size() != 1) throw bad_request(given.name, "is given more than once");
    const std::string& text = given.texts.front();
    if (field == "model") return check_model(text);
    if (field == "size") return set_size(text);
    if (field == "seconds") return set_seconds(text);
    claim(std::string(given.field->field), given.name);
    set_field(std::string(given.field->field), given.name, text);
  }

  // Notes that the client's `name` decides a field, which no other name may then do.
  void claim(const std::string& field, const std::string& name) {
    const auto [claimed, is_new] = result_.spellings.emplace(field, name);
    if (!is_new) {
      throw bad_request(name, fmt::format("cannot be given together with {}", claimed->second));
    }
  }

  void set_field(const std::string& field, const std::string& name, const std::string& text) {
    if (field == "sparsity") {
      result_.request.sparsity = parse_sparsity(text);
    } else if (field == "prompt" || field == "negative_prompt") {
      job::set_from_text(result_.request, field,
                         check_prompt(name, text, context_.max_prompt_length));
    } else {
      blame_client(name, [&] { job::set_from_text(result_.request, field, text); });
    }
  }

  void check_model(const std::string& text) const {
    if (text == context_.model) return;
    throw bad_request("model", fmt::format("wanted '{}', found '{}'", context_.model, text),
                      "model_not_found");
  }

  void set_size(const std::string& text) {
    claim("width", "size");
    claim("height", "size");
    const std::size_t cross = std::min(text.find('x'), text.size());
    result_.request.width = parse_number<int>(std::string_view(text).substr(0, cross));
    result_.request.height =
        parse_number<int>(std::string_view(text).substr(std::min(cross + 1, text.size())));
    if (!result_.request.width || !result_.request.height) {
      throw bad_request("size",
                        fmt::format("wanted WIDTHxHEIGHT, such as 848x480, found '{}'", text));
    }
  }

  void set_seconds(const std::string& text) {
    claim("num_frames", "seconds");
    seconds_ = parse_seconds(text);
  }

  void set_loras(const GivenField& given) {
    claim("lora", given.name);
    std::vector<NamedLora>& loras = result_.loras.emplace();
    for (const std::string& text : given.texts) {
      NamedLora lora = parse_lora(text);
      if (std::ranges::find(context_.loras, lora.name) == context_.loras.end()) {
        throw bad_request(given.name, fmt::format("'{}' is unknown, {}", lora.name,
                                                  suggest_name(lora.name, context_.loras)));
      }
      if (std::ranges::find(loras, lora.name, &NamedLora::name) != loras.end()) {
        throw bad_request(given.name, fmt::format("'{}' is given more than once", lora.name));
      }
      loras.push_back(std::move(lora));
    }
  }

  void finish() {
    job::Request& request = result_.request;
    if (seconds_) request.num_frames = frames_of(*seconds_, request.fps.value_or(context_.fps));
    if (request.sparsity && request.no_sparsity.value_or(false)) {
      throw bad_request("sparsity", "cannot be given together with no_sparsity");
    }
    const bool is_blank =
        request.prompt && request.prompt->find_first_not_of(" \t\n") == std::string::npos;
    if (is_blank || (context_.needs_prompt && !request.prompt)) {
      throw bad_request("prompt", "wanted a text, found none");
    }
    std::erase_if(result_.spellings, [](const auto& it) { return it.first == it.second; });
  }

  const BodyContext& context_;
  VideoRequest result_;
  std::optional<double> seconds_;
};

}  // namespace

VideoRequest parse_video_form(std::span<const FormField> fields, const BodyContext& context) {
  return BodyReader(context).read(list_form(fields));
}

VideoRequest parse_video_json(std::string_view text, const BodyContext& context) {
  return BodyReader(context).read(list_json(text));
}

}  // namespace mochi::server
