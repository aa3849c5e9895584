#include "cli/compare.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/difference.h"
#include "cli/interrupt.h"
#include "cli/terminal.h"
#include "io/video_quality.h"
#include "io/video_reader.h"
#include "job/latents_file.h"

namespace mochi::cli {
namespace {

using OrderedJson = nlohmann::ordered_json;
namespace fs = std::filesystem;

// Infinity, which JSON does not have, is null.
OrderedJson number(double value) { return std::isfinite(value) ? OrderedJson(value) : nullptr; }

int largest_of(const std::vector<FrameQuality>& frames) {
  int largest = 0;
  for (const FrameQuality& frame : frames) largest = std::max(largest, frame.largest_difference);
  return largest;
}

void print_videos(const std::vector<FrameQuality>& frames) {
  print_line("{:>5} {:>9} {:>8} {:>8}", "frame", "PSNR/dB", "SSIM", "largest");
  for (std::size_t i = 0; i < frames.size(); ++i) {
    print_line("{:>5} {:>9.2f} {:>8.5f} {:>8}", i, frames[i].psnr, frames[i].ssim,
               frames[i].largest_difference);
  }
  print_line("{:>5} {:>9.2f} {:>8.5f} {:>8}", "all", whole_psnr(frames),
             mean_of(frames, &FrameQuality::ssim), largest_of(frames));
}

void print_videos_json(const std::vector<FrameQuality>& frames) {
  OrderedJson rows = OrderedJson::array();
  for (const FrameQuality& frame : frames) {
    rows.push_back({{"psnr", number(frame.psnr)},
                    {"ssim", frame.ssim},
                    {"largest_difference", frame.largest_difference}});
  }
  const OrderedJson json{{"psnr", number(whole_psnr(frames))},
                         {"mean_frame_psnr", number(mean_of(frames, &FrameQuality::psnr))},
                         {"ssim", mean_of(frames, &FrameQuality::ssim)},
                         {"largest_difference", largest_of(frames)},
                         {"frames", rows}};
  print_result(json.dump(2) + "\n");
}

void compare_two_videos(const CompareOptions& options) {
  const VideoQuality quality = compare_videos(options.first, options.second, was_interrupted);
  for (const std::string& note : quality.notes) tell("warning: {}", note);
  options.prints_json ? print_videos_json(quality.frames) : print_videos(quality.frames);
}

std::string describe(const Latents& latents) {
  return fmt::format("[1, {}, {}, {}, {}]", latents.channels, latents.num_frames, latents.height,
                     latents.width);
}

void compare_latents(const CompareOptions& options) {
  const Latents a = job::read_latents(options.first);
  const Latents b = job::read_latents(options.second);
  if (describe(a) != describe(b)) {
    fail_to_compare(options.first, describe(a), options.second, describe(b));
  }
  Difference whole;
  std::vector<Difference> frames(static_cast<std::size_t>(a.num_frames));
  const auto frame_size = static_cast<std::size_t>(a.height * a.width);
  for (std::size_t i = 0; i < a.values.size(); ++i) {
    whole.add(a.values[i], b.values[i]);
    frames[i / frame_size % frames.size()].add(a.values[i], b.values[i]);
  }
  if (options.prints_json) {
    OrderedJson rows = OrderedJson::array();
    for (const Difference& frame : frames) {
      rows.push_back(
          {{"relative_error", number(frame.relative())}, {"largest_difference", frame.largest}});
    }
    const OrderedJson json{{"relative_error", number(whole.relative())},
                           {"largest_difference", whole.largest},
                           {"frames", rows}};
    print_result(json.dump(2) + "\n");
    return;
  }
  print_line("{:>5} {:>14} {:>10}", "frame", "relative error", "largest");
  for (std::size_t i = 0; i < frames.size(); ++i) {
    print_line("{:>5} {:>14.3e} {:>10.4f}", i, frames[i].relative(), frames[i].largest);
  }
  print_line("{:>5} {:>14.3e} {:>10.4f}", "all", whole.relative(), whole.largest);
}

bool is_latents(const fs::path& path) { return path.extension() == ".safetensors"; }

// Opens the file as what its name says, for the error about a file that is something else.
void check_file(const fs::path& path) {
  if (is_latents(path)) {
    job::read_latents(path);
  } else {
    make_video_reader(path, {}, was_interrupted);
  }
}

}  // namespace

void add_compare_flags(CLI::App& command, CompareOptions& options) {
  command
      .add_option("first", options.first,
                  "a video, an image, a folder of PNGs or JPEGs, or .safetensors latents")
      ->type_name("FILE")
      ->required();
  command
      .add_option("second", options.second,
                  "the file to compare it with, of the same kind and size")
      ->type_name("FILE")
      ->required();
  command.add_flag("--json", options.prints_json, "print JSON, not a table");
}

void run_compare(const CompareOptions& options) {
  if (is_latents(options.first) != is_latents(options.second)) {
    check_file(options.first);
    check_file(options.second);
    const auto kind_of = [](const fs::path& path) {
      return is_latents(path) ? "a latents file" : "a video";
    };
    fail_to_compare(options.first, kind_of(options.first), options.second, kind_of(options.second));
  }
  is_latents(options.first) ? compare_latents(options) : compare_two_videos(options);
}

}  // namespace mochi::cli
