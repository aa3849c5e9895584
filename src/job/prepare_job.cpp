#include <algorithm>
#include <utility>

#include "base/atomic_file.h"
#include "base/error.h"
#include "job/check_same.h"
#include "job/checkpoint_file.h"
#include "job/field_value.h"
#include "job/job.h"
#include "job/output_path.h"

namespace mochi::job {
namespace {

namespace fs = std::filesystem;
using OrderedJson = nlohmann::ordered_json;

// Returns the parts of a recipe that determine the latents.
OrderedJson latents_part(const OrderedJson& recipe) {
  const auto section = [&recipe](const char* key) {
    return recipe.value(key, OrderedJson::object());
  };
  return {
      {"request", section("request")},
      {"latents", section("latents")},
      {"loras", section("model").value("loras", OrderedJson::array())},
      {"dtype", section("engine").value("dtype", "")},
      {"weights", section("engine").value("weights", "auto")},
      {"compute", section("engine").value("compute", "auto")},
      {"compute_overrides", section("engine").value("compute_overrides", OrderedJson::array())}};
}

OrderedJson model_part(const OrderedJson& recipe) {
  const OrderedJson model = recipe.value("model", OrderedJson::object());
  return {{"files", model.value("files", OrderedJson::array())},
          {"random_weights", model.value("random_weights", "")}};
}

OrderedJson video_part(const OrderedJson& recipe) {
  OrderedJson video = recipe.value("video", OrderedJson::object());
  video.erase("file");
  return video;
}

bool makes_same_video(const OrderedJson& wanted, const Json& found) {
  const OrderedJson other = OrderedJson::parse(found.dump());
  return Json(latents_part(wanted)) == Json(latents_part(other)) &&
         Json(model_part(wanted)) == Json(model_part(other)) &&
         Json(video_part(wanted)) == Json(video_part(other));
}

// A checkpoint continues the video that it was made for, and no other.
void check_checkpoint(const Job& job) {
  const OrderedJson wanted = latents_part(job.described);
  const OrderedJson saved = latents_part(OrderedJson::parse(job.input.checkpoint_recipe.dump()));
  const std::string owner = "the checkpoint's video";
  check_same(owner, wanted.at("request"), Json(saved.at("request")));
  for (const char* key : {"loras", "dtype", "weights", "compute", "compute_overrides"}) {
    check_same(owner, {{key, wanted.at(key)}}, {{key, saved.at(key)}});
  }
}

// ---- the use of each file ----

void claim_input(const char* field, const fs::path& path, const char* use, Run& run) {
  if (const std::string owner = run.outputs.find(path); !owner.empty()) {
    throw InvalidRequest(field, fmt::format("'{}' is written for {}", path.string(), owner));
  }
  run.inputs.add(path, use);
}

void claim_inputs(const Job& job, Run& run) {
  const JobOptions& options = job.input.options;
  const Request& request = options.request;
  if (request.noise) claim_input("noise", *request.noise, "the start noise", run);
  if (request.chipmunk_config) {
    claim_input("chipmunk_config", *request.chipmunk_config, "the sparsity configuration", run);
  }
  if (options.latents_file) run.inputs.add(*options.latents_file, "the latents to decode");
  if (job.input.checkpoint) run.inputs.add(*job.input.checkpoint, "the checkpoint");
  for (const Lora& lora : options.engine.loras) run.inputs.add(lora.path, "a LoRA");
  const fs::path& dir = options.engine.model_dir;
  if (!dir.empty()) {
    run.inputs.add(dir, "the model's folder");
    run.inputs.add(dir / "config.json", "a file of the model");
  }
  for (const ModelFile& file : run.with.model_files) {
    run.inputs.add(dir / file.name, "a file of the model");
  }
}

std::string describe_owner(const Job& job) {
  return job.input.source.name.empty() ? job.output.string() : job.input.source.name;
}

void claim_output(const char* field, const fs::path& path, const Job& job, Run& run) {
  if (const std::string use = run.inputs.find(path); !use.empty()) {
    throw InvalidRequest(field, fmt::format("'{}' is {}", path.string(), use));
  }
  if (const std::string owner = run.outputs.find(path); !owner.empty()) {
    throw InvalidRequest(field, fmt::format("'{}' is also written for {}", path.string(), owner));
  }
  run.outputs.add(path, describe_owner(job));
}

void claim_outputs(const Job& job, Run& run) {
  claim_output("out", job.output, job, run);
  claim_output("out", sidecar_path(job.output), job, run);
  if (job.input.options.save_latents) {
    claim_output("save_latents", *job.input.options.save_latents, job, run);
  }
  // A checkpoint that is resumed is an input and an output.
  if (job.input.checkpoint || job.input.options.latents_file) return;
  claim_output("out", job.checkpoint, job, run);
}

// ---- files that nobody named are not replaced ----

bool is_sidecar(const fs::path& path) {
  try {
    const Json json = read_json(path);
    return json.value("made_by", "") == "mochi.cpp" && json.contains("video");
  } catch (const std::exception&) {
    return false;
  }
}

void refuse_link(const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_symlink(path, ignored)) return;
  fail("'{}' is a link to '{}', which would be replaced: remove the link", path.string(),
       fs::read_symlink(path, ignored).string());
}

void check_unnamed_files(const Job& job) {
  std::error_code ignored;
  const fs::path sidecar = sidecar_path(job.output);
  refuse_link(sidecar);
  if (fs::exists(sidecar, ignored) && !is_sidecar(sidecar)) {
    fail("'{}' exists and is not the JSON of a video: it would be replaced", sidecar.string());
  }
  const bool writes = job.input.options.checkpoint_every.value_or(0) > 0;
  const bool is_resumed = job.input.checkpoint.has_value();
  if (!writes || is_resumed) return;
  refuse_link(job.checkpoint);
  if (fs::exists(job.checkpoint, ignored)) {
    fail("'{}' belongs to an unfinished run and would be replaced: resume it, or remove the file",
         job.checkpoint.string());
  }
}

// Opens the outputs, so that one that cannot be written fails before the sampling.
void probe_outputs(Job& job, Run& run) {
  if (job.input.options.save_latents) const AtomicFile latents(*job.input.options.save_latents);
  const VideoSize& size = job.resolved.size;
  job.note =
      run.checks.check(job.output, {size.width, size.height, job.recipe.fps()}, run.should_stop);
  const AtomicFile sidecar(sidecar_path(job.output));
}

// ---- where the video goes ----

std::string naming_text(const Job& job) {
  const JobOptions& options = job.input.options;
  return options.latents_file ? options.latents_file->stem().string()
                              : job.resolved.generate.prompt;
}

// Returns true if an earlier run with an equal recipe has made this video.
bool was_made(const Job& job, const fs::path& output) {
  std::error_code ignored;
  const fs::path sidecar = sidecar_path(output);
  return fs::exists(output, ignored) && is_sidecar(sidecar) &&
         makes_same_video(job.described, read_json(sidecar));
}

std::optional<SamplingCheckpoint> find_checkpoint(const Job& job, const fs::path& output) {
  const fs::path path = checkpoint_path(output);
  if (!is_checkpoint(path)) return std::nullopt;
  SamplingCheckpoint checkpoint = read_checkpoint(path);
  if (!makes_same_video(job.described, checkpoint.recipe)) return std::nullopt;
  return checkpoint;
}

// Takes over the results of an earlier run under this name. Returns false if it left none of this
// video.
bool continue_at(Job& job, const fs::path& output) {
  if (was_made(job, output)) {
    job.is_done = true;
  } else if (std::optional<SamplingCheckpoint> checkpoint = find_checkpoint(job, output)) {
    job.input.start = std::move(checkpoint->state);
    job.input.checkpoint_recipe = std::move(checkpoint->recipe);
    job.input.checkpoint = checkpoint_path(output);
  } else {
    return false;
  }
  job.output = output;
  return true;
}

// Tries the names that reserve_output() gives, as far as they exist and no earlier line has them.
bool continue_default_output(Job& job, const fs::path& folder, const Run& run) {
  std::error_code ignored;
  for (int number = 1;; ++number) {
    const fs::path output =
        numbered_output_path(folder, naming_text(job), job.resolved.generate.seed, number);
    if (!fs::exists(output, ignored) && !fs::exists(checkpoint_path(output), ignored)) return false;
    if (run.outputs.find(output).empty() && continue_at(job, output)) return true;
  }
}

void choose_output(Job& job, const Run& run) {
  const JobOptions& options = job.input.options;
  if (options.output) {
    job.output = *options.output;
    if (job.input.continues) continue_at(job, job.output);
    return;
  }
  const fs::path folder = options.out_dir.value_or("videos");
  if (job.input.continues && continue_default_output(job, folder, run)) return;
  job.reserved = reserve_output(folder, naming_text(job), job.resolved.generate.seed);
  job.output = job.reserved->path();
}

void prepare_output(Job& job, Run& run) {
  choose_output(job, run);
  job.checkpoint = job.input.checkpoint.value_or(checkpoint_path(job.output));
  job.recipe.output = job.output;
  job.described = describe_recipe(job.recipe, run.with);
  claim_outputs(job, run);
  if (job.is_done) return;
  check_unnamed_files(job);
  probe_outputs(job, run);
  if (job.input.start) check_checkpoint(job);
}

// All errors about a line of a sweep file name the line.
template <typename Prepare>
void locate_line(const FieldSource& source, const Prepare& prepare) {
  try {
    locate_errors(source, prepare);
  } catch (const InvalidRequest&) {
    throw;
  } catch (const Cancelled&) {
    throw;
  } catch (const Error& error) {
    const std::string what = error.what();
    if (!source.is_line || what.starts_with(source.name)) throw;
    throw Error(source.name + ": " + what);
  }
}

}  // namespace

Recipe make_recipe(const JobOptions& options, const Resolved& resolved) {
  Recipe recipe;
  recipe.size = resolved.size;
  recipe.request = resolved.request;
  recipe.latents_file = options.latents_file;
  recipe.engine = options.engine;
  recipe.save_latents = options.save_latents;
  recipe.checkpoint_every = options.checkpoint_every.value_or(0);
  return recipe;
}

Job prepare_job(JobInput input, const ModelInfo& model, Run& run) {
  Job job;
  job.input = std::move(input);
  locate_line(job.input.source, [&] {
    job.resolved = resolve(job.input.options, model, job.input.source, run.should_stop);
    job.recipe = make_recipe(job.input.options, job.resolved);
    job.described = describe_recipe(job.recipe, run.with);
    claim_inputs(job, run);
    prepare_output(job, run);
  });
  return job;
}

}  // namespace mochi::job
