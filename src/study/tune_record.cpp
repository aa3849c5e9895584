#include "study/tune_record.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/atomic_file.h"
#include "base/error.h"
#include "io/json.h"
#include "job/check_same.h"
#include "mochi/mochi.h"
#include "study/search_space.h"

namespace mochi::study {
namespace {

using OrderedJson = nlohmann::ordered_json;
namespace fs = std::filesystem;

// Raised when a search would misread older records. Those without a format searched sparsity alone.
constexpr int kFormat = 2;

OrderedJson describe(const Evaluation& evaluation) {
  OrderedJson json{{"seconds", evaluation.seconds},
                   {"psnr", evaluation.psnr},
                   {"ssim", evaluation.ssim},
                   {"relative_error", evaluation.relative_error},
                   {"num_evaluated", evaluation.num_evaluated}};
  if (evaluation.full_step_seconds > 0) json["full_step_seconds"] = evaluation.full_step_seconds;
  if (evaluation.sparse_step_seconds > 0) {
    json["sparse_step_seconds"] = evaluation.sparse_step_seconds;
  }
  return json;
}

// For the reader: the constants of the cost model, which follow from the videos.
OrderedJson describe(const CostModel& costs) {
  OrderedJson json{{"dense", costs.dense_step_seconds()}};
  if (const auto& sparse = costs.sparse()) {
    json["full"] = sparse->full_seconds;
    json["sparse"] = sparse->sparse_seconds;
  }
  return json;
}

// The values after the evaluations follow from them; they are for the reader and never read back.
OrderedJson describe(const TuneRecord& record, std::size_t trial_idx) {
  const Trial& trial = record.trials[trial_idx];
  OrderedJson evaluations = OrderedJson::array();
  for (const Evaluation& evaluation : trial.evaluations)
    evaluations.push_back(describe(evaluation));
  OrderedJson json{{"number", trial_idx + 1},
                   {"summary", describe_briefly(trial.config, record.workload)},
                   {"evaluations", evaluations}};
  if (!trial.evaluations.empty()) {
    json["psnr"] = mean_psnr(trial);
    json["ssim"] = mean_of(trial.evaluations, &Evaluation::ssim);
    json["relative_error"] = mean_of(trial.evaluations, &Evaluation::relative_error);
    json["worst_prompt"] = worst_prompt(trial) + 1;
    if (const auto predicted = record.predict_seconds(trial_idx)) {
      json["predicted_seconds"] = *predicted;
    }
    json["speed_up"] = speed_up(trial, record.dense_seconds());
    json["is_complete"] = record.goal.is_complete(trial);
    json["is_good"] = record.goal.is_good(trial);
  }
  json["config"] = OrderedJson::parse(to_json(trial.config));
  return json;
}

// Calls read(item, path) for each item of the list at `path` + `key`. Its reader refuses items that
// are no objects.
void read_list(const Json& object, const std::string& source, const std::string& path,
               const char* key, const auto& read) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_array()) {
    fail("{}: {}{}: wanted a list", source, path, key);
  }
  for (std::size_t i = 0; i < found->size(); ++i) {
    read(found->at(i), fmt::format("{}{}[{}]", path, key, i));
  }
}

Trial read_trial(const Json& json, const std::string& source, const std::string& path) {
  JsonReader reader(json, source, path);
  if (!reader.get_object("config")) fail("{}: key is missing", reader.locate("config"));
  Trial trial{parse_sparsity_config(json.at("config").dump(), reader.locate("config")).config, {}};
  read_list(json, source, path + ".", "evaluations", [&](const Json& item, const auto& at) {
    JsonReader evaluation(item, source, at);
    trial.evaluations.push_back({evaluation.require_float("seconds"),
                                 evaluation.require_float("psnr"), evaluation.require_float("ssim"),
                                 evaluation.require_float("relative_error"),
                                 static_cast<int>(evaluation.require_int("num_evaluated")),
                                 evaluation.get_float("full_step_seconds", 0),
                                 evaluation.get_float("sparse_step_seconds", 0)});
  });
  return trial;
}

// Returns whether a run can have written this: dense videos first, then trials of the prompts.
bool is_consistent(const TuneRecord& record) {
  if (record.dense.size() > record.goal.num_prompts) return false;
  const bool is_ready = record.dense.size() == record.goal.num_prompts;
  return std::ranges::all_of(record.trials, [&](const Trial& trial) {
    const std::size_t num_evaluations = trial.evaluations.size();
    return is_ready && num_evaluations > 0 && num_evaluations <= record.goal.num_prompts;
  });
}

}  // namespace

std::vector<double> TuneRecord::dense_seconds() const {
  std::vector<double> seconds;
  seconds.reserve(dense.size());
  for (const DenseRun& run : dense) seconds.push_back(run.seconds);
  return seconds;
}

std::vector<double> TuneRecord::dense_step_seconds() const {
  std::vector<double> seconds;
  seconds.reserve(dense.size());
  for (const DenseRun& run : dense) seconds.push_back(run.step_seconds);
  return seconds;
}

CostModel TuneRecord::costs() const {
  const std::optional<std::size_t> tried = find(start);
  const bool is_measured = tried && goal.is_complete(trials[*tried]);
  return measure_costs(workload, dense_step_seconds(), is_measured ? &trials[*tried] : nullptr);
}

std::optional<double> TuneRecord::predict_seconds(std::size_t trial_idx) const {
  const SparsityConfig& config = trials[trial_idx].config;
  if (!has_place(config)) return std::nullopt;
  const Place place = place_of(config, workload);
  const CostModel model = costs();
  return model.can_predict(place) ? std::optional(model.predict(place)) : std::nullopt;
}

std::optional<std::size_t> TuneRecord::find(const SparsityConfig& config) const {
  const std::string key = to_json(config);
  for (std::size_t i = 0; i < trials.size(); ++i) {
    if (to_json(trials[i].config) == key) return i;
  }
  return std::nullopt;
}

std::size_t TuneRecord::find_or_add(const SparsityConfig& config) {
  if (const auto found = find(config)) return *found;
  trials.push_back({config, {}});
  return trials.size() - 1;
}

fs::path record_path(const fs::path& folder) { return folder / "trials.json"; }

fs::path latents_path(const fs::path& folder, std::size_t prompt_idx) {
  return folder / "dense" / fmt::format("{:03}.safetensors", prompt_idx + 1);
}

void read_record(const fs::path& folder, TuneRecord& record) {
  const std::string source = record_path(folder).string();
  const Json json = read_json(record_path(folder));
  JsonReader root(json, source);
  const std::int64_t format = root.get_int("format", 1);
  if (format != kFormat) {
    fail(
        "'{}' has format {}, wanted is {}: another version of mochi began this search; begin again "
        "with another --out",
        source, format, kFormat);
  }
  if (!root.get_object("settings")) fail("{}: key is missing", root.locate("settings"));
  job::check_same(fmt::format("'{}'", source), record.settings, json.at("settings"));
  read_list(json, source, "", "dense", [&](const Json& item, const auto& path) {
    JsonReader run(item, source, path);
    record.dense.push_back({run.require_float("seconds"), run.require_float("step_seconds"),
                            run.require_string("fingerprint")});
  });
  read_list(json, source, "", "trials", [&](const Json& item, const auto& path) {
    record.trials.push_back(read_trial(item, source, path));
  });
  if (!is_consistent(record))
    fail("'{}': the numbers of videos and evaluations contradict each other", source);
}

void write_record(const fs::path& folder, const TuneRecord& record) {
  OrderedJson dense = OrderedJson::array();
  for (std::size_t i = 0; i < record.dense.size(); ++i) {
    dense.push_back({{"latents", latents_path("", i).string()},
                     {"fingerprint", record.dense[i].fingerprint},
                     {"seconds", record.dense[i].seconds},
                     {"step_seconds", record.dense[i].step_seconds}});
  }
  OrderedJson trials = OrderedJson::array();
  for (std::size_t i = 0; i < record.trials.size(); ++i) trials.push_back(describe(record, i));
  OrderedJson json{{"made_by", "mochi.cpp"},
                   {"version", version()},
                   {"format", kFormat},
                   {"settings", record.settings},
                   {"min_psnr", record.goal.min_psnr}};
  const std::optional<std::size_t> fastest = record.fastest();
  json["fastest"] = fastest ? OrderedJson(*fastest + 1) : nullptr;
  json["step_costs"] = describe(record.costs());
  json["dense"] = dense;
  json["trials"] = trials;
  write_file_atomically(record_path(folder), json.dump(2) + "\n");
}

}  // namespace mochi::study
