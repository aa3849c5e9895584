#include "study/analyze.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <string_view>

#include "base/atomic_file.h"
#include "base/memory_usage.h"
#include "job/compute_table.h"
#include "report/report_folder.h"
#include "study/analysis_page.h"
#include "study/analysis_run.h"
#include "study/analysis_tables.h"
#include "study/analysis_words.h"

namespace mochi::study {
namespace {

constexpr std::string_view kPage = "report.html";
constexpr std::string_view kJson = "report.json";
constexpr std::string_view kSites = "sites.csv";
constexpr std::string_view kSteps = "steps.csv";
constexpr std::string_view kCompute = "compute.json";
constexpr std::array<std::string_view, 8> kFileNames{
    kPage, kJson, kSites, kSteps, kCompute, kDenseVideo, kSparseVideo, kSkippingVideo};

std::string make_compute_table(const Analysis& analysis) {
  nlohmann::ordered_json table;
  job::describe_compute(plan_int8(average_products(analysis)), table);
  return table.dump(2) + "\n";
}

}  // namespace

AnalysisOutcome analyze(Engine& engine, const AnalysisTask& task, StudyObserver& observer) {
  report::ReportFolder folder(task.folder, kFileNames);
  const Analysis analysis = run_analysis(engine, task.request, task.fps, folder.folder(), observer);

  AnalysisOutcome outcome{
      .json = task.recipe, .words = judge(analysis), .page = task.folder / kPage};
  if (analysis.has_skipping()) {
    outcome.json["sampling"] = {{"evaluated_steps", analysis.evaluated_steps()}};
  }
  outcome.json["analysis"] = describe_analysis(analysis);
  outcome.json["peak_memory_bytes"] = peak_memory_bytes();
  std::ranges::copy(summarise_in_words(analysis), std::back_inserter(outcome.words));
  const auto write = [&](std::string_view name, const std::string& content) {
    write_file_atomically(folder.folder() / name, content);
  };
  write(kPage, make_analysis_page(analysis, task.recipe));
  write(kJson, outcome.json.dump(2) + "\n");
  write(kSites, make_sites_csv(analysis));
  write(kSteps, make_steps_csv(analysis));
  if (!analysis.products.empty()) write(kCompute, make_compute_table(analysis));
  folder.commit();
  return outcome;
}

}  // namespace mochi::study
