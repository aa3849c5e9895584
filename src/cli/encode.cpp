#include "cli/encode.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/memory_usage.h"
#include "cli/bundled.h"
#include "cli/command_observer.h"
#include "cli/interrupt.h"
#include "cli/progress_display.h"
#include "io/video_reader.h"
#include "job/latents_file.h"

namespace mochi::cli {
namespace {

struct Clip {
  VideoSize size;
  std::vector<std::uint8_t> rgb;  // [num_frames, height, width, 3]
};

Clip read_clip(const std::filesystem::path& path) {
  const std::unique_ptr<VideoReader> reader = make_video_reader(path);
  const VideoFormat& format = reader->format();
  Clip clip{.size = {.width = format.width, .height = format.height, .num_frames = 0}, .rgb = {}};
  std::vector<std::uint8_t> frame(format.frame_bytes());
  while (reader->read_frame(frame)) {
    if (interrupt_signal() != 0) throw Cancelled();
    clip.rgb.insert(clip.rgb.end(), frame.begin(), frame.end());
    ++clip.size.num_frames;
  }
  return clip;
}

}  // namespace

void add_encode_flags(CLI::App& command, EncodeOptions& options) {
  command.add_option("video", options.video, "a video, or a folder of PNGs")
      ->type_name("FILE")
      ->required();
  command.add_option("--out", options.output, "the .safetensors file of latents to write")
      ->type_name("FILE")
      ->required();
  add_engine_flags(command, options.engine);
  command.add_flag("--quiet", options.is_quiet, "print errors only");
}

void add_decode_flags(CLI::App& command, GenerateOptions& options) {
  command.add_option("latents", options.job.latents_file, "a .safetensors file of latents")
      ->type_name("FILE")
      ->required();
  add_output_flags(command, options);
  add_engine_flags(command, options.job.engine);
  add_report_flags(command, options);
}

void run_encode(EncodeOptions options) {
  choose_model(options.engine);
  options.engine.on_message = message_printer(options.is_quiet);
  Engine engine(options.engine);
  const AtomicFile probe(options.output);  // better now than after the work
  const Clip clip = read_clip(options.video);
  ProgressDisplay display(display_style(options.is_quiet));
  CommandObserver observer(display);
  try {
    engine.model().latent_size(clip.size);
  } catch (const Error& error) {
    fail("'{}': {}", options.video.string(), error.what());
  }
  const Latents latents = engine.encode(clip.rgb, clip.size, observer);
  job::write_latents_file(options.output, latents);
  if (options.is_quiet) return;
  constexpr double kMebibyte = 1024.0 * 1024.0;
  fmt::print("{} ([1, {}, {}, {}, {}]); peak memory {:.0f} MiB\n", options.output.string(),
             latents.channels, latents.num_frames, latents.height, latents.width,
             static_cast<double>(peak_memory_bytes()) / kMebibyte);
}

}  // namespace mochi::cli
