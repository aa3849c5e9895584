#include "server/video_request.h"

#include <gtest/gtest.h>

#include "base/temp_folder.h"

namespace mochi::server {
namespace {

BodyContext micro_context() {
  return {.model = "micro", .fps = {30, 1}, .loras = {"style", "other"}, .max_prompt_length = 20};
}

// Fields of a body without a prompt.
VideoRequest read_body(const std::string& json) {
  BodyContext context = micro_context();
  context.needs_prompt = false;
  return parse_video_json(json, context);
}

using FormValues = std::vector<std::pair<std::string, std::string>>;
VideoRequest read_form(const FormValues& values) {
  std::vector<FormField> fields;
  for (const auto& [name, value] : values) fields.push_back({name, value, std::nullopt, ""});
  BodyContext context = micro_context();
  context.needs_prompt = false;
  return parse_video_form(fields, context);
}

// Expects HttpError 400 with this parameter and returns its message.
template <typename Call>
std::string refusal(const std::string& param, const Call& call) {
  try {
    call();
  } catch (const HttpError& error) {
    EXPECT_EQ(error.status(), 400);
    EXPECT_EQ(error.param(), param) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no HttpError was thrown";
  return "";
}

void expect_refused(const std::string& json, const std::string& param, const std::string& part) {
  expect_contains(refusal(param, [&] { read_body(json); }), part);
}

void expect_form_refused(const FormValues& values, const std::string& param,
                         const std::string& part) {
  expect_contains(refusal(param, [&] { read_form(values); }), part);
}

TEST(VideoRequest, ReadsEachFieldOfJson) {
  const VideoRequest read = read_body(R"({"prompt": "a \u00e9", "negative_prompt": "", "width": 64,
    "height": 48, "num_frames": 13, "seed": 18446744073709551615, "num_steps": 4,
    "cfg_scale": 4.5, "cfg_schedule": [6, 4.5, 1e0], "threshold_noise": 0.05, "linear_steps": 2,
    "noise_source": "torch-cpu", "no_sparsity": true, "skip": "fast", "max_evaluations": 3,
    "fps": 23.976, "lora": ["style:0.5", "other"], "model": "micro"})");
  const job::Request& request = read.request;
  EXPECT_EQ(request.prompt, "a \u00e9");
  EXPECT_EQ(request.negative_prompt, "");
  EXPECT_EQ(request.width, 64);
  EXPECT_EQ(request.height, 48);
  EXPECT_EQ(request.num_frames, 13);
  EXPECT_EQ(request.seed, 18446744073709551615U);
  EXPECT_EQ(request.num_steps, 4);
  EXPECT_EQ(request.cfg_scale, 4.5);
  EXPECT_EQ(request.cfg_schedule, (std::vector<double>{6, 4.5, 1}));
  EXPECT_EQ(request.threshold_noise, 0.05);
  EXPECT_EQ(request.linear_steps, 2);
  EXPECT_EQ(request.noise_source, NoiseSource::kTorchCpu);
  EXPECT_EQ(request.no_sparsity, true);
  EXPECT_EQ(request.skip, SkipTier::kFast);
  EXPECT_EQ(request.max_evaluations, 3);
  EXPECT_EQ(request.fps, (FrameRate{24'000, 1001}));
  EXPECT_EQ(read.loras, (std::vector<NamedLora>{{"style", 0.5}, {"other", 1}}));
  EXPECT_TRUE(read.spellings.empty());
}

TEST(VideoRequest, JsonMayHaveTexts) {
  const VideoRequest read = read_body(
      R"({"width": "64", "cfg_schedule": "6,1", "no_sparsity": "false", "seconds": "0.4",
          "lora": "style", "sparsity": "{\"attn\": {\"top_keys\": 0.1}}", "fps": "15"})");
  EXPECT_EQ(read.request.width, 64);
  EXPECT_EQ(read.request.cfg_schedule, (std::vector<double>{6, 1}));
  EXPECT_EQ(read.request.no_sparsity, false);
  EXPECT_EQ(read.request.num_frames, 7);
  EXPECT_EQ(read.loras, (std::vector<NamedLora>{{"style", 1}}));
  ASSERT_TRUE(read.request.sparsity);
  EXPECT_EQ(read.request.sparsity->attn.top_keys, 0.1);
}

TEST(VideoRequest, FormsHaveTheSameFields) {
  const VideoRequest read = read_form({{"prompt", "a ball"},
                                       {"size", "64x48"},
                                       {"num_inference_steps", "4"},
                                       {"guidance_scale", "4.5"},
                                       {"lora", "style:-0.5"},
                                       {"lora", "other"},
                                       {"cfg_schedule", "6,1"},
                                       {"sparsity", R"({"attn": {"top_keys": 0.1}})"}});
  EXPECT_EQ(read.request.prompt, "a ball");
  EXPECT_EQ(read.request.width, 64);
  EXPECT_EQ(read.request.height, 48);
  EXPECT_EQ(read.request.num_steps, 4);
  EXPECT_EQ(read.request.cfg_scale, 4.5);
  EXPECT_EQ(read.loras, (std::vector<NamedLora>{{"style", -0.5}, {"other", 1}}));
  EXPECT_EQ(read.request.cfg_schedule, (std::vector<double>{6, 1}));
  ASSERT_TRUE(read.request.sparsity);
  EXPECT_EQ(read.request.sparsity->attn.top_keys, 0.1);
}

// OpenAI's client for Python writes lists in extra_body so.
TEST(VideoRequest, FormsMayHaveListsItemByItem) {
  const VideoRequest read = read_form({{"lora[]", "style:0.5"},
                                       {"lora[]", "other"},
                                       {"cfg_schedule[]", "6"},
                                       {"cfg_schedule[]", "4.5"}});
  EXPECT_EQ(read.loras, (std::vector<NamedLora>{{"style", 0.5}, {"other", 1}}));
  EXPECT_EQ(read.request.cfg_schedule, (std::vector<double>{6, 4.5}));
  expect_form_refused({{"cfg_schedule[]", "x"}}, "cfg_schedule[]", "wanted numbers with commas");
  expect_form_refused({{"lora[]", "style"}, {"lora", "other"}}, "lora", "together with lora[]");
  expect_form_refused({{"width[]", "64"}}, "width[]", "unknown field, did you mean 'width'?");
  expect_form_refused({{"sparsity[attn][top_keys]", "0.1"}}, "sparsity[attn][top_keys]",
                      "wanted one field 'sparsity', an object in JSON");
}

TEST(VideoRequest, NullMeansNotGiven) {
  const VideoRequest read = read_body(
      R"({"prompt": null, "size": null, "width": 64, "input_reference": null, "lora": null})");
  EXPECT_EQ(read.request.width, 64);
  EXPECT_FALSE(read.request.prompt);
  EXPECT_FALSE(read.loras);
  expect_refused(R"({"widht": null})", "widht", "unknown field");
}

TEST(VideoRequest, SecondsGiveTheNearestNumberOfFrames) {
  const auto frames = [](const std::string& body) { return read_body(body).request.num_frames; };
  EXPECT_EQ(frames(R"({"seconds": "4"})"), 121);
  EXPECT_EQ(frames(R"({"seconds": 4, "fps": 24})"), 97);
  EXPECT_EQ(frames(R"({"fps": "24000/1001", "seconds": 1})"), 25);
  EXPECT_EQ(frames(R"({"seconds": 0.001})"), 1);
  EXPECT_EQ(frames(R"({"seconds": 0.14})"), 7);
  EXPECT_EQ(frames(R"({"seconds": 65536, "fps": 1000})"), 65'536'003);
  for (const char* seconds :
       {"0", "-1", "65537", "1e308", "\"nan\"", "\"inf\"", "\"4s\"", "\"\"", "true"}) {
    expect_refused(fmt::format(R"({{"seconds": {}}})", seconds), "seconds",
                   "wanted a number above 0 and at most 65536, found");
  }
}

TEST(VideoRequest, SizeGivesWidthAndHeight) {
  EXPECT_EQ(read_body(R"({"size": "848x480"})").request.height, 480);
  for (const char* size :
       {"", "848", "848x", "x480", "848X480", "848x480x3", "848 x 480", "9999999999x1"}) {
    expect_refused(fmt::format(R"({{"size": "{}"}})", size), "size", "wanted WIDTHxHEIGHT");
  }
  expect_refused(R"({"size": 848})", "size", "found '848'");
}

TEST(VideoRequest, RandomSeedsBecomeNumbers) {
  const VideoRequest read = read_body(R"({"seed": "random"})");
  ASSERT_TRUE(read.request.seed);
  EXPECT_EQ(to_json(read)["seed"], *read.request.seed);
}

TEST(VideoRequest, RefusesUnknownFieldsAndFiles) {
  expect_refused(R"({"widht": 64})", "widht", "widht: unknown field, did you mean 'width'?");
  expect_form_refused({{"", "x"}}, "", "unknown field");
  expect_refused(R"({"noise": "/etc/passwd"})", "noise", "files of the server cannot be named");
  expect_refused(R"({"chipmunk_config": "a.yml"})", "chipmunk_config", "'sparsity' takes");
  expect_refused(R"({"input_reference": {"image_url": "x"}})", "input_reference", "from text only");
  const std::vector<FormField> upload{{"input_reference", "x", "a.png", "image/png"}};
  expect_contains(refusal("input_reference", [&] { parse_video_form(upload, micro_context()); }),
                  "this model makes videos from text only");
  const std::vector<FormField> file{{"prompt", "x", "a.txt", "text/plain"}};
  expect_contains(refusal("prompt", [&] { parse_video_form(file, micro_context()); }),
                  "wanted a text, found a file");
}

TEST(VideoRequest, RefusesContradictions) {
  expect_refused(R"({"num_steps": 4, "num_inference_steps": 4})", "num_steps",
                 "num_steps: cannot be given together with num_inference_steps");
  expect_refused(R"({"cfg_scale": 4, "guidance_scale": 4})", "guidance_scale", "with cfg_scale");
  expect_refused(R"({"size": "64x64", "width": 64})", "width", "together with size");
  expect_refused(R"({"height": 64, "size": "64x64"})", "size", "together with height");
  expect_refused(R"({"seconds": 1, "num_frames": 13})", "seconds", "together with num_frames");
  expect_refused(R"({"sparsity": {}, "no_sparsity": true})", "sparsity", "with no_sparsity");
  EXPECT_TRUE(read_body(R"({"sparsity": {}, "no_sparsity": false})").request.sparsity);
  expect_refused(R"({"width": 64, "width": 64})", "", "body: duplicate key 'width'");
  expect_form_refused({{"width", "64"}, {"width", "64"}}, "width", "is given more than once");
}

TEST(VideoRequest, ErrorsNameTheClientsField) {
  expect_refused(R"({"num_inference_steps": 0})", "num_inference_steps",
                 "num_inference_steps: wanted 1 to 10000, found 0");
  expect_refused(R"({"guidance_scale": "x"})", "guidance_scale", "wanted a number, found 'x'");
  expect_refused(R"({"width": 1.5})", "width", "wanted an integer, found '1.5'");
  expect_refused(R"({"width": 9999999999})", "width", "wanted an integer, found '9999999999'");
  expect_refused(R"({"width": true})", "width", "wanted an integer, found 'true'");
  expect_refused(R"({"width": [64]})", "width", "wanted INT, found [64]");
  expect_refused(R"({"width": {"a": 1}})", "width", R"(wanted INT, found {"a":1})");
  expect_refused(R"({"no_sparsity": []})", "no_sparsity", "wanted true or false, found []");
  expect_refused(R"({"no_sparsity": 1})", "no_sparsity", "wanted true or false, found '1'");
  expect_refused(R"({"seed": -1})", "seed", "wanted 0 to 18446744073709551615 or 'random'");
  expect_refused(R"({"prompt": 5})", "prompt", "wanted TEXT, found 5");
  expect_refused(R"({"cfg_schedule": []})", "cfg_schedule", "wanted numbers with commas");
  expect_refused(R"({"cfg_schedule": [1, "2"]})", "cfg_schedule", R"(found [1,"2"])");
  expect_refused(R"({"skip": "slow"})", "skip", "wanted off|careful|fast, found 'slow'");
  expect_refused(R"({"fps": 0})", "fps", "wanted a number or a fraction");
  expect_refused(R"({"model": "sora-2"})", "model", "model: wanted 'micro', found 'sora-2'");
  expect_refused(R"({"sparsity": 5})", "sparsity", "wanted an object, found '5'");
  expect_refused(R"({"sparsity": "a: b"})", "sparsity", "sparsity: column 1: not valid JSON");
  expect_refused(R"({"sparsity": {"attn": {"top_kyes": 1}}})", "sparsity",
                 "sparsity: key 'attn.top_kyes' is not known; did you mean 'attn.top_keys'?");
  expect_refused(R"({"sparsity": {"attn": {"top_keys": 1.5}}})", "sparsity",
                 "sparsity: attn.top_keys: wanted 0 to 1, found 1.5");
}

TEST(VideoRequest, RefusesOtherBodies) {
  expect_refused("", "", "body: column 1: not valid JSON");
  expect_refused("[1]", "", "body: wanted a JSON object");
  expect_refused("{\"prompt\": \"\xff\"}", "", "not valid JSON");
  expect_refused("{\"sparsity\": " + std::string(10'000, '['), "", "nested deeper than 100");
}

TEST(VideoRequest, PromptsAreChecked) {
  const auto parse = [](const std::string& json) {
    return parse_video_json(json, micro_context());
  };
  for (const char* json :
       {"{}", R"({"prompt": ""})", R"({"prompt": " \n\t"})", R"({"prompt": null})"}) {
    EXPECT_EQ(refusal("prompt", [&] { parse(json); }), "prompt: wanted a text, found none") << json;
  }
  expect_refused(R"({"prompt": ""})", "prompt", "wanted a text, found none");
  EXPECT_EQ(read_form({{"prompt", "a\r\nb\n\tc"}}).request.prompt, "a\nb\n\tc");
  for (const char* text : {"\\u0000", "\\u0007", "a\\rb", "\\u007f", "\\u0085", "\\u001b[1m"}) {
    expect_refused(fmt::format(R"({{"prompt": "{}"}})", text), "prompt",
                   "wanted no control characters");
    expect_refused(fmt::format(R"({{"negative_prompt": "{}"}})", text), "negative_prompt",
                   "control");
  }
  expect_form_refused({{"prompt", "a\xff"}}, "prompt", "not valid UTF-8 at byte 1");
  std::string accents;
  for (int i = 0; i < 20; ++i) accents += "\u00e9";
  EXPECT_EQ(read_form({{"prompt", accents}}).request.prompt, accents);
  expect_form_refused({{"prompt", accents + "e"}}, "prompt", "at most 20 characters, found 21");
}

TEST(VideoRequest, LorasAreThoseOfTheServer) {
  EXPECT_EQ(read_body(R"({"lora": []})").loras, std::vector<NamedLora>{});
  expect_refused(R"({"lora": "styel"})", "lora", "lora: 'styel' is unknown, did you mean 'style'?");
  expect_refused(R"({"lora": "../style"})", "lora", "'../style' is unknown");
  expect_refused(R"({"lora": "style:inf"})", "lora", "'style:inf' is unknown");
  expect_refused(R"({"lora": ["style", "style:2"]})", "lora", "'style' is given more than once");
  expect_refused(R"({"lora": [1]})", "lora", "wanted NAME[:SCALE],..., found [1]");
}

TEST(Lora, TextsAreReadBack) {
  for (const NamedLora& lora : {NamedLora{"a", 1}, NamedLora{"a", 0.1}, NamedLora{"a:2", 1},
                                NamedLora{"a:b", 1}, NamedLora{"", 1e-300}, NamedLora{"a:", -3}}) {
    EXPECT_EQ(parse_lora(format_lora(lora)), lora) << format_lora(lora);
  }
  EXPECT_EQ(format_lora({"a", 0.8}), "a:0.8");
  EXPECT_EQ(format_lora({"a", 1}), "a");
}

TEST(VideoRequest, JsonIsReadBack) {
  const VideoRequest request = read_body(
      R"({"prompt": "a", "size": "64x48", "seconds": 1, "seed": 18446744073709551615, "fps": 29.97,
          "cfg_schedule": [0.1, 1e-300], "lora": ["style:0.1"], "threshold_noise": 0.030000000000000002,
          "sparsity": {"attn": {"top_keys": 0.1, "full_step_schedule": [0, 3]},
                       "mlp": {"is_enabled": true}}})");
  const nlohmann::ordered_json json = to_json(request);
  EXPECT_EQ(json["seed"], 18446744073709551615U);
  EXPECT_EQ(json["fps"], "30000/1001");
  EXPECT_EQ(json["num_frames"], 31);
  const VideoRequest stored = read_video_request(Json::parse(json.dump()), "a video");
  EXPECT_EQ(to_json(stored).dump(), json.dump());
  EXPECT_EQ(stored.request.seed, request.request.seed);
  EXPECT_EQ(stored.request.fps, request.request.fps);
  EXPECT_EQ(stored.request.cfg_schedule, request.request.cfg_schedule);
  EXPECT_EQ(stored.request.threshold_noise, request.request.threshold_noise);
  EXPECT_EQ(stored.loras, request.loras);
  ASSERT_TRUE(stored.request.sparsity);
  EXPECT_EQ(stored.request.sparsity->attn.full_step_schedule, (std::set<int>{0, 3}));
  // A client may post it again.
  EXPECT_EQ(to_json(read_body(json.dump())).dump(), json.dump());
}

TEST(VideoRequest, DamagedRecordsAreNamed) {
  const auto error_of = [](const char* json) {
    return message_of<Error>([&] { read_video_request(Json::parse(json), "video_1"); });
  };
  expect_contains(error_of("[]"), "video_1: wanted an object");
  expect_contains(error_of(R"({"width": "x"})"), "video_1: width: wanted an integer");
  expect_contains(error_of(R"({"widht": 1})"), "video_1: widht: unknown key");
  expect_contains(error_of(R"({"lora": 1})"), "video_1: lora: wanted a list");
}

TEST(VideoRequest, ARemixChangesItsSource) {
  const VideoRequest source = read_body(
      R"({"prompt": "a", "num_steps": 8, "linear_steps": 2, "seed": 5, "lora": "style"})");
  const VideoRequest remix =
      overlay(source, read_body(R"({"prompt": "b", "num_inference_steps": 4})"));
  EXPECT_EQ(remix.request.prompt, "b");
  EXPECT_EQ(remix.request.num_steps, 4);
  EXPECT_FALSE(remix.request.linear_steps);  // belonged to the other number of steps
  EXPECT_EQ(remix.request.seed, 5U);
  EXPECT_EQ(remix.loras, source.loras);
  EXPECT_EQ(remix.spellings.at("num_steps"), "num_inference_steps");
  EXPECT_EQ(overlay(source, read_body(R"({"lora": []})")).loras, std::vector<NamedLora>{});
}

TEST(VideoRequest, LaterErrorsNameTheClientsFieldToo) {
  const VideoRequest request = read_body(R"({"size": "65x64", "seconds": 1, "seed": 1})");
  const auto translated = [&](const char* field) {
    return refusal(field == std::string("width")        ? "size"
                   : field == std::string("num_frames") ? "seconds"
                                                        : field,
                   [&] { throw to_http_error(InvalidRequest(field, "wanted x"), request); });
  };
  EXPECT_EQ(translated("width"), "size: wanted x");
  EXPECT_EQ(translated("num_frames"), "seconds: wanted x");
  EXPECT_EQ(translated("seed"), "seed: wanted x");
}

TEST(Work, IsLimited) {
  GenerateRequest request;
  request.width = 848;
  request.height = 480;
  request.num_frames = 163;
  request.num_steps = 64;
  EXPECT_EQ(work_of(request), 4'246'241'280U);
  EXPECT_NO_THROW(check_work(request, 4'246'241'280U));
  expect_contains(refusal("", [&] { check_work(request, 4'246'241'279U); }),
                  "of at most 4246241279, found 848 * 480 * 163 * 64 = 4246241280");
  request.width = request.height = request.num_frames = request.num_steps = 2'000'000'000;
  EXPECT_EQ(work_of(request), std::numeric_limits<std::uint64_t>::max());
}

}  // namespace
}  // namespace mochi::server
