#include "cli/tune.h"

#include <fmt/format.h>

#include <cmath>
#include <utility>

#include "base/atomic_file.h"
#include "base/error.h"
#include "cli/bundled.h"
#include "cli/command_observer.h"
#include "cli/flag_names.h"
#include "study/evaluator.h"
#include "study/tune_report.h"
#include "cli/usage_error.h"
#include "job/field_value.h"
#include "job/prompts_file.h"
#include "job/recipe.h"
#include "job/resolve.h"

namespace mochi::cli {
namespace {

using OrderedJson = nlohmann::ordered_json;
namespace fs = std::filesystem;

constexpr int kMinSteps = 3;  // with two, all are full

void check_flags(const TuneOptions& options) {
  if (!(options.min_psnr > 0 && options.min_psnr <= kMaxPsnr)) {
    throw UsageError(
        fmt::format("--min-psnr: wanted above 0 to {}, found {}", kMaxPsnr, options.min_psnr));
  }
  if (options.max_trials < 1) {
    throw UsageError(fmt::format("--max-trials: wanted 1 or more, found {}", options.max_trials));
  }
}

// Runs what reads flags or the file that one names: its errors are the command line's.
template <typename Read>
auto read_flags(const Read& read) {
  try {
    return read();
  } catch (const Error& error) {
    throw UsageError(describe_error(error));
  }
}

// All but the prompt.
job::Resolved make_base(const TuneOptions& options, const Engine& engine) {
  job::Resolved base = job::resolve(options.generation, engine.model());
  base.request.prompt.reset();
  base.generate.prompt.clear();
  if (base.generate.num_steps < kMinSteps) {
    throw UsageError(fmt::format("--num-steps: wanted {} or more, found {}", kMinSteps,
                                 base.generate.num_steps));
  }
  return base;
}

SparsityConfig make_start(const TuneOptions& options, const Workload& workload) {
  const fs::path file = options.start ? *options.start : find_bundled_sparsity();
  const SparsityConfig start = read_flags([&] { return load_sparsity_config(file); });
  if (!start.attn.is_enabled) {
    fail("'{}': attn.is_enabled: wanted true, found false", file.string());
  }
  return options.start ? start : fit_start(start, workload);
}

std::vector<GenerateRequest> make_requests(const GenerateRequest& base,
                                           const std::vector<job::LinePrompt>& prompts,
                                           const Engine& engine) {
  std::vector<GenerateRequest> requests;
  for (const job::LinePrompt& prompt : prompts) {
    requests.push_back(base);
    requests.back().prompt = prompt.text;
    try {
      engine.model().check(requests.back());
    } catch (const Error& error) {
      fail("{}: {}", prompt.source, error.what());
    }
  }
  return requests;
}

// All that the evaluations depend on.
OrderedJson describe_settings(const job::Request& base, const SparsityConfig& start,
                              const std::vector<job::LinePrompt>& prompts, const Engine& engine) {
  job::Recipe described;  // the model is known by its files' fingerprints, not by its place
  described.request = base;
  described.request.sparsity = start;
  const OrderedJson recipe = job::describe_recipe(described, job::made_with(engine));
  OrderedJson settings = recipe["request"];
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    settings[fmt::format("prompt {}", i + 1)] = prompts[i].text;
  }
  for (const OrderedJson& file : recipe["model"]["files"]) {
    settings[fmt::format("model file '{}'", file["name"].get<std::string>())] = file["fingerprint"];
  }
  settings.update(recipe["engine"]);
  return settings;
}

// Better now than after the work: what cannot be written to says so when it is opened.
void prepare_folder(const TuneOptions& options, TuneRecord& record) {
  const fs::path& folder = options.output;
  if (options.resumes) {
    read_record(folder, record);
  } else if (fs::exists(record_path(folder))) {
    fail("'{}' is there already: go on with --resume, or give another --output",
         record_path(folder).string());
  }
  std::error_code error;
  fs::create_directories(folder / "dense", error);
  if (error) fail("cannot make the folder '{}': {}", (folder / "dense").string(), error.message());
  for (const fs::path& path : {record_path(folder), report_path(folder), config_path(folder)}) {
    const AtomicFile probe(path);
  }
}

void run_search(const TuneOptions& options, const SparsityConfig& start, const Workload& workload,
                Evaluator& evaluator, TuneRecord& record) {
  int num_done = 0;
  search(
      start, workload, record.goal, options.max_trials,
      [&](const SparsityConfig& config, std::size_t prompt_idx) {
        return evaluator.evaluate(config, prompt_idx);
      },
      [&](const Trial& trial) {
        ++num_done;
        if (options.is_quiet) return;
        const double seconds_left = evaluator.seconds_per_evaluation() *
                                    static_cast<double>(record.goal.num_prompts) *
                                    (options.max_trials - num_done);
        fmt::print(stderr, "{}\n",
                   describe_progress(record, record.find_or_add(trial.config), seconds_left));
      });
}

// The report and the configuration. Throws when no trial is good enough.
void finish(const TuneOptions& options, const TuneRecord& record) {
  write_record(options.output, record);  // with the wanted quality of this run
  write_file_atomically(report_path(options.output), make_report(record));
  const fs::path config = config_path(options.output);
  const std::optional<std::size_t> fastest = record.fastest();
  if (!options.is_quiet) fmt::print("{}", make_summary(record));
  if (!fastest) {
    fs::remove(config);  // of an earlier run that wanted less
    fail("no trial reaches {} dB; {}", options.min_psnr, describe_best(record));
  }
  write_file_atomically(config, to_yaml(record.trials[*fastest].config));
  if (options.is_quiet) return;
  if (speed_up(record.trials[*fastest], record.dense_seconds()) <= 1) {
    fmt::print(stderr, "warning: that is no faster than dense attention\n");
  }
  fmt::print("{}\nreport: {}\n", config.string(), report_path(options.output).string());
}

}  // namespace

void run_tune(const TuneOptions& options) {
  check_flags(options);
  const std::vector<job::LinePrompt> prompts = job::read_prompts(options.prompts);
  EngineOptions engine_options = options.generation.engine;
  choose_model(engine_options);
  engine_options.on_message = message_printer(options.is_quiet);
  Engine engine(engine_options);
  const job::Resolved resolved = make_base(options, engine);
  const GenerateRequest& base = resolved.generate;
  const Workload workload{base.num_steps, engine.model().num_layers()};
  const SparsityConfig start = make_start(options, workload);
  std::vector<GenerateRequest> requests = make_requests(base, prompts, engine);
  TuneRecord record{.settings = describe_settings(resolved.request, start, prompts, engine),
                    .goal = {options.min_psnr, prompts.size()},
                    .num_steps = base.num_steps};
  prepare_folder(options, record);
  if (!options.is_quiet) {
    GenerateRequest first_trial = base;
    first_trial.sparsity = start;
    for (const std::string& warning : engine.model().warnings(first_trial)) {
      fmt::print(stderr, "warning: {}\n", warning);
    }
  }
  Evaluator evaluator(engine, std::move(requests), options.output, record, options.is_quiet);
  try {
    evaluator.prepare_dense();
    run_search(options, start, workload, evaluator, record);
  } catch (const Cancelled&) {
    if (!options.is_quiet) fmt::print(stderr, "\nto go on: the same command with --resume\n");
    throw;
  }
  finish(options, record);
}

}  // namespace mochi::cli
