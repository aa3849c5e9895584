// The fields of a request, listed once. Flags, JSON, sweep lines, the overlay of two requests and
// the check of a resumed run all use this list.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/video_format.h"
#include "mochi/mochi.h"

namespace mochi::job {

// A request for one video. A field without a value keeps the model's default.
struct Request {
  std::optional<std::string> prompt, negative_prompt;
  std::optional<int> width, height, num_frames;
  std::optional<std::uint64_t> seed;
  std::optional<int> num_steps;
  std::optional<double> cfg_scale;
  std::optional<std::vector<double>> cfg_schedule;
  std::optional<double> threshold_noise;
  std::optional<int> linear_steps;
  std::optional<NoiseSource> noise_source;
  std::optional<std::filesystem::path> noise;            // a latents file
  std::optional<std::filesystem::path> chipmunk_config;  // a sparsity configuration
  std::optional<bool> no_sparsity;
  std::optional<SparsityConfig> sparsity;
  std::optional<SkipTier> skip;
  std::optional<int> max_evaluations;
  std::optional<FrameRate> fps;
};

// The faces that offer a field.
enum class Offer : std::uint8_t {
  kAlways,      // every command that samples
  kPerVideo,    // commands that make one video or several different ones
  kGenerating,  // commands that make videos to keep
  kPlayback,    // also commands that only decode; it does not change the latents
  kInFiles,     // JSON only
};

// Both ends included.
struct Range {
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
};

struct Field {
  std::string_view name;   // "num_steps"; the flag is --num-steps
  std::string_view value;  // "INT", "FILE", "mochi|torch-cpu"; empty: a switch
  std::string_view help;
  Offer offer = Offer::kPerVideo;
  Range range = {};
  // A field that makes this one have no effect if both are given together.
  std::string_view overruled_by = {};
  // Fields of a lower layer that belong to its own value of this field, and go with it.
  std::array<std::string_view, 2> displaces = {};
};

// Calls visit(field, request.member, member of GenerateRequest that takes its value, or null).
template <typename AnyRequest, typename Visitor>
void visit_request(AnyRequest& request, Visitor&& visit) {
  using Target = GenerateRequest;
  visit(
      Field{
          .name = "prompt", .value = "TEXT", .help = "what the video shows (default: the model's)"},
      request.prompt, &Target::prompt);
  visit(Field{.name = "negative_prompt",
              .value = "TEXT",
              .help = "what to avoid (default: the model's)",
              .offer = Offer::kAlways},
        request.negative_prompt, &Target::negative_prompt);
  visit(Field{.name = "width",
              .value = "INT",
              .help = "pixels, a multiple of 16 (default: the model's)",
              .offer = Offer::kAlways},
        request.width, &Target::width);
  visit(Field{.name = "height",
              .value = "INT",
              .help = "pixels, a multiple of 16 (default: the model's)",
              .offer = Offer::kAlways},
        request.height, &Target::height);
  visit(Field{.name = "num_frames",
              .value = "INT",
              .help = "number of frames: 1, 7, 13, ... (6k + 1) (default: the model's)",
              .offer = Offer::kAlways},
        request.num_frames, &Target::num_frames);
  visit(Field{.name = "seed",
              .value = "UINT|random",
              .help = "seed of the start noise, or 'random' (default: 0)",
              .offer = Offer::kAlways,
              .overruled_by = "noise"},
        request.seed, &Target::seed);
  visit(Field{.name = "num_steps",
              .value = "INT",
              .help = "sampling steps (default: the model's)",
              .offer = Offer::kAlways,
              .range = {1, 10'000},
              .displaces = {"linear_steps"}},
        request.num_steps, &Target::num_steps);
  visit(Field{.name = "cfg_scale",
              .value = "FLOAT",
              .help = "guidance; 1: none (default: the model's)",
              .offer = Offer::kAlways,
              .overruled_by = "cfg_schedule"},
        request.cfg_scale, &Target::cfg_scale);
  visit(Field{.name = "cfg_schedule",
              .value = "FLOAT,...",
              .help = "guidance of each step: 6,6,4,1",
              .displaces = {"linear_steps", "cfg_scale"}},
        request.cfg_schedule, &Target::cfg_schedule);
  visit(Field{.name = "threshold_noise",
              .value = "FLOAT",
              .help = "share of the noise removed by the linear steps (default: the model's)"},
        request.threshold_noise, &Target::threshold_noise);
  visit(Field{.name = "linear_steps",
              .value = "INT",
              .help = "linear part of the steps; 0: half of them (default: 0)",
              .range = {0, 10'000}},
        request.linear_steps, &Target::linear_steps);
  visit(Field{.name = "noise_source",
              .value = "mochi|torch-cpu|torch-cuda",
              .help = "which random number generator makes the start noise (default: mochi)",
              .overruled_by = "noise"},
        request.noise_source, &Target::noise_source);
  visit(Field{.name = "noise",
              .value = "FILE",
              .help = "start noise from a .safetensors file",
              .displaces = {"seed", "noise_source"}},
        request.noise, nullptr);
  visit(Field{.name = "chipmunk_config",
              .value = "FILE",
              .help = "sparsity configuration (default: none)",
              .offer = Offer::kGenerating,
              .displaces = {"no_sparsity", "sparsity"}},
        request.chipmunk_config, nullptr);
  visit(Field{.name = "no_sparsity",
              .value = "",
              .help = "disable sparsity",
              .offer = Offer::kGenerating,
              .displaces = {"chipmunk_config", "sparsity"}},
        request.no_sparsity, nullptr);
  visit(Field{.name = "sparsity",
              .value = "OBJECT",
              .help = "sparsity configuration",
              .offer = Offer::kInFiles,
              .displaces = {"chipmunk_config", "no_sparsity"}},
        request.sparsity, &Target::sparsity);
  visit(Field{.name = "skip",
              .value = "off|careful|fast",
              .help = "evaluate the transformer at some of the steps only",
              .offer = Offer::kGenerating,
              .overruled_by = "max_evaluations"},
        request.skip, nullptr);
  visit(Field{.name = "max_evaluations",
              .value = "INT",
              .help = "evaluate the transformer at so many of the steps",
              .offer = Offer::kGenerating,
              .range = {1, 10'000},
              .displaces = {"skip"}},
        request.max_evaluations, nullptr);
  visit(Field{.name = "fps",
              .value = "RATE",
              .help = "frames per second, such as 24 or 24000/1001 (default: the model's)",
              .offer = Offer::kPlayback},
        request.fps, nullptr);
}

// Lays `upper` over `lower`: values of `upper` win. A value of `upper` also removes fields of
// `lower` that would overrule it, and those that belonged to the value that it replaces.
Request overlay(Request lower, const Request& upper);

// Fields that have a value.
std::vector<std::string> given_fields(const Request& request);
bool is_given(const Request& request, std::string_view field);
// Returns true if a field that decides the latents has a value.
bool changes_latents(const Request& request);

// "cfg_scale" has no effect because of "cfg_schedule".
struct Overruled {
  std::string field, by;
};
std::vector<Overruled> find_overruled(const Request& request);

}  // namespace mochi::job
