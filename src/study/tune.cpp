#include "study/tune.h"

#include <fmt/format.h>

#include <utility>

#include "base/atomic_file.h"
#include "base/error.h"
#include "study/evaluator.h"
#include "study/tune_report.h"

namespace mochi::study {
namespace {

using OrderedJson = nlohmann::ordered_json;
namespace fs = std::filesystem;

std::vector<DenseVideo> make_dense_videos(const TuneTask& task, const Engine& engine) {
  const job::MadeWith with = job::made_with(engine);
  std::vector<DenseVideo> videos;
  for (const job::LinePrompt& prompt : task.prompts) {
    DenseVideo& video = videos.emplace_back(task.base, OrderedJson());
    video.request.prompt = prompt.text;
    job::Recipe recipe = task.recipe;
    recipe.request.prompt = prompt.text;
    video.recipe = job::describe_recipe(recipe, with);
    try {
      engine.model().check(video.request);
    } catch (const Error& error) {
      fail("{}: {}", prompt.source, error.what());
    }
  }
  return videos;
}

// Everything that the evaluations depend on. The model is identified by the fingerprints of its
// files, not by its folder.
OrderedJson describe_settings(const TuneTask& task, const Engine& engine) {
  job::Recipe described;
  described.request = task.recipe.request;
  described.request.sparsity = task.start;
  const OrderedJson recipe = job::describe_recipe(described, job::made_with(engine));
  OrderedJson settings = recipe["request"];
  for (std::size_t i = 0; i < task.prompts.size(); ++i) {
    settings[fmt::format("prompt {}", i + 1)] = task.prompts[i].text;
  }
  for (const OrderedJson& file : recipe["model"]["files"]) {
    settings[fmt::format("model file '{}'", file["name"].get<std::string>())] = file["fingerprint"];
  }
  settings.update(recipe["engine"]);
  return settings;
}

// The files of a finished search; none may replace one that the user put there.
void refuse_used_folder(const fs::path& folder) {
  if (fs::exists(folder) && !fs::is_directory(folder)) {
    fail("cannot write '{}': wanted a folder, found a file", folder.string());
  }
  for (const fs::path& path : {record_path(folder), report_path(folder), config_path(folder)}) {
    if (fs::exists(path)) fail("'{}' already exists, and would be replaced", path.string());
  }
}

// Opens every output, so that one that cannot be written is found before the work.
void prepare_folder(const TuneTask& task, TuneRecord& record) {
  const fs::path& folder = task.folder;
  if (task.resumes) {
    read_record(folder, record);
  } else {
    refuse_used_folder(folder);
  }
  std::error_code error;
  fs::create_directories(folder / "dense", error);
  if (error) {
    fail("cannot create the folder '{}': {}", (folder / "dense").string(),
         describe_errno(error.value()));
  }
  for (const fs::path& path : {record_path(folder), report_path(folder), config_path(folder),
                               latents_path(folder, record.dense.size())}) {
    const AtomicFile probe(path);
  }
}

void warn_of_start(const TuneTask& task, const SparsityConfig& start, const ModelInfo& model,
                   TuneObserver& observer) {
  if (task.scope == SearchScope::kSkipping) return;
  GenerateRequest first_trial = task.base;
  first_trial.sparsity = start;
  for (const std::string& warning : model.warnings(first_trial)) observer.on_warning(warning);
}

void run_search(const TuneTask& task, Evaluator& evaluator, TuneRecord& record,
                TuneObserver& observer) {
  int num_done = 0;
  search(
      {.start = record.start,
       .workload = record.workload,
       .goal = record.goal,
       .scope = task.scope,
       .max_trials = task.max_trials,
       .dense_step_seconds = record.dense_step_seconds()},
      [&](const SparsityConfig& config, std::size_t prompt_idx) {
        return evaluator.evaluate(config, prompt_idx);
      },
      [&](const Trial& trial) {
        ++num_done;
        const double seconds_left = evaluator.seconds_per_evaluation() *
                                    static_cast<double>(record.goal.num_prompts) *
                                    (task.max_trials - num_done);
        observer.on_trial(record, record.find_or_add(trial.config), seconds_left);
      });
}

void write_results(const fs::path& folder, const TuneRecord& record) {
  write_record(folder, record);  // with the wanted quality of this run
  write_file_atomically(report_path(folder), make_report(record));
  const std::optional<std::size_t> fastest = record.fastest();
  if (fastest) {
    write_file_atomically(config_path(folder), to_yaml(record.trials[*fastest].config));
  } else {
    fs::remove(config_path(folder));  // left by an earlier run that wanted less
  }
}

}  // namespace

Workload make_workload(const GenerateRequest& base, const ModelInfo& model, SearchScope scope) {
  if (base.num_steps < least_steps(scope)) {
    throw InvalidRequest("num_steps", fmt::format("wanted {} or more, found {}", least_steps(scope),
                                                  base.num_steps));
  }
  return {base.num_steps, model.num_layers()};
}

TuneRecord tune(Engine& engine, const TuneTask& task, TuneObserver& observer) {
  const ModelInfo& model = engine.model();
  std::vector<DenseVideo> videos = make_dense_videos(task, engine);
  TuneRecord record{.settings = describe_settings(task, engine),
                    .start = evaluate_every_step(task.start),
                    .workload = make_workload(task.base, model, task.scope),
                    .goal = {task.min_psnr, task.prompts.size()}};
  prepare_folder(task, record);
  warn_of_start(task, record.start, model, observer);
  Evaluator evaluator(engine, std::move(videos), task.folder, record, observer);
  evaluator.prepare_dense();
  run_search(task, evaluator, record, observer);
  write_results(task.folder, record);
  return record;
}

}  // namespace mochi::study
