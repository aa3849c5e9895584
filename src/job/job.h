// One video of a run, from its options to the files on disk. Nothing here knows a terminal.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/stop.h"
#include "io/video_writer.h"
#include "job/output_files.h"
#include "job/recipe.h"
#include "job/resolve.h"

namespace mochi::job {

struct JobInput {
  JobOptions options;
  FieldSource source = {};                 // source of values that the caller did not give
  std::optional<SamplerState> start = {};  // resume from here
  std::optional<std::filesystem::path> checkpoint = {};  // the file that `start` was read from
  Json checkpoint_recipe = {};                           // its recipe
  std::set<int> evaluated_steps = {};  // evaluate the steps that an earlier video evaluated
  // Skip a video that was already made from the same recipe, and resume its checkpoint.
  bool continues = false;
};

struct Job {
  JobInput input;
  Resolved resolved;
  Recipe recipe;
  nlohmann::ordered_json described;  // the recipe, as JSON
  std::filesystem::path output;
  std::filesystem::path checkpoint;
  std::shared_ptr<ReservedName> reserved;  // a name that the program has chosen
  bool is_done = false;                    // the video was made by an earlier run
  std::string note;                        // about the output's format; usually empty
};

// State that the jobs of a run share.
struct Run {
  // `stop` ends what preparing a job may have to wait for: a pipe to read, ffmpeg.
  explicit Run(const Engine& engine, StopFn stop = {})
      : with(made_with(engine)), should_stop(std::move(stop)) {}
  MadeWith with;
  StopFn should_stop;
  FileClaims inputs, outputs;
  VideoOutputChecks checks;
};

// Checks all that can be checked before the work begins, and decides where the video goes. Throws
// InvalidRequest naming a field, "out" or "save_latents", Error naming the line or the file, or
// Cancelled.
Job prepare_job(JobInput input, const ModelInfo& model, Run& run);

// The recipe of a request that is resolved, without an output.
Recipe make_recipe(const JobOptions& options, const Resolved& resolved);

// The file from which a job that ended without its video can be continued.
struct Kept {
  enum class Kind { kCheckpoint, kLatents };
  Kind kind = Kind::kCheckpoint;
  std::filesystem::path file;
};

// Reports events of run_job() to its caller, in addition to those of the engine.
class JobObserver : public Observer {
 public:
  // A frame of the video was decoded and is about to be written: RGB bytes [height, width, 3],
  // valid during the call only, and its index. Frames come in order, the last one before the video
  // is complete. An exception ends the job.
  virtual void on_frame(std::span<const std::uint8_t> /*rgb*/, std::int64_t /*frame_idx*/,
                        const VideoSize& /*size*/) {}
  // Something secondary went wrong; the video is not affected.
  virtual void on_warning(std::string_view /*text*/) {}
  // The job is about to end with an exception, but work of it was kept.
  virtual void on_kept(const Kept& /*kept*/) {}
};

struct Outcome {
  std::filesystem::path output;
  VideoSize size;
  FrameRate fps;
  std::map<Phase, double> seconds;
  double total_seconds = 0;
  std::uint64_t peak_memory_bytes = 0;
  std::uint64_t peak_device_bytes = 0;
  nlohmann::ordered_json sidecar;  // the recipe with times and memory
};

// Samples, decodes, and writes the video and the JSON next to it. Sampled latents survive a later
// failure: in save_latents, next to the output, or in one of `rescue_folders`.
Outcome run_job(const Job& job, Engine& engine, JobObserver& observer,
                const std::vector<std::filesystem::path>& rescue_folders);

}  // namespace mochi::job
