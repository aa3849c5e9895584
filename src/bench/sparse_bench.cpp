// Sparse attention: its operations, and forward passes of one branch compared with dense ones.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "base/error.h"
#include "bench/dit_bench.h"
#include "bench/flops.h"
#include "bench/op_bench.h"
#include "pipeline/request.h"
#include "sparsity/schedule.h"

namespace mochi::bench {
namespace {

// The first two full steps make a plan; after them, any full and any sparse step can be measured.
constexpr int kFirstSteps = 2;
// Less than any caches need, so that they are stored on the host.
constexpr std::uint64_t kNoRoom = 1;

struct Kind {
  const char* name;
  StepKind step;
  bool is_offloaded;

  bool is_sparse() const { return step != StepKind::kDense; }
};
constexpr Kind kKinds[] = {{"forward, dense", StepKind::kDense, false},
                           {"forward, full step", StepKind::kFull, false},
                           {"forward, sparse step", StepKind::kSparse, false},
                           {"forward, full step, caches on the host", StepKind::kFull, true},
                           {"forward, sparse step, caches on the host", StepKind::kSparse, true}};

// Returns the first step of a kind after those that make a plan. Throws Error if there is none.
int find_step(const SparsityConfig& config, StepKind kind) {
  constexpr int kManySteps = 1000;
  if (kind == StepKind::kDense) return 0;
  for (int step = kFirstSteps; step < kManySteps; ++step) {
    if (step_kind(config, step, config.attn.first_n_dense_layers) == kind) return step;
  }
  fail("the sparsity configuration has no {} step",
       kind == StepKind::kFull ? "third full" : "sparse");
}

bool is_wanted(const Kind& kind, const std::vector<std::string>& names) {
  return names.empty() || std::ranges::any_of(names, [&](const std::string& name) {
           return std::string(kind.name).find(name) != std::string::npos;
         });
}

// Returns the seconds until all operations are launched; the device may still be working.
double measure_asking(Session& session, DitRunner& runner, int step) {
  session.backend->device().synchronize();
  const auto start = std::chrono::steady_clock::now();
  runner.run(*session.backend, step);
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  session.backend->device().synchronize();
  return taken.count();
}

// Seconds of the profile in which the work waited for copies.
double waited_seconds(const Measurement& result) {
  double seconds = 0;
  for (const OpTime& op : result.profile) {
    if (op.name == ops::Await::kName) seconds += op.seconds;
  }
  return seconds;
}

void measure_kind(Session& session, const Kind& kind, DitRunner& runner, Measurement result) {
  result.name = kind.name;
  const int step = find_step(session.sizes.sparsity, kind.step);
  const bool is_gpu = !session.backend->device().device().is_cpu();
  const bool is_usual =
      result.num_frames == session.sizes.video.num_frames || session.request.num_frames.size() == 1;
  measure_network(
      session, [&](Backend& backend) { runner.run(backend, step); }, result,
      session.request.is_profiled && is_usual);
  if (is_gpu) result.launch_seconds = measure_asking(session, runner, step);
  if (const ColumnSparsePolicy* policy = runner.sparse_policy()) {
    result.host_bytes = policy->host_bytes();
    const auto first = static_cast<int>(policy->config().attn.first_n_dense_layers);
    const ColumnPlan* plan = policy->find_plan({Branch::kCond, first});
    if (plan != nullptr) result.kept_fraction = plan->kept_fraction(*session.backend);
  }
  if (kind.is_offloaded && !result.profile.empty()) result.waited_seconds = waited_seconds(result);
  if (!runner.is_finite()) result.problem = "the velocity is not finite";
  session.add(std::move(result));
}

// Measures all kinds of passes of one length; the memory of one kind is freed before the next.
void measure_length(Session& session, const Dit& dit, std::uint64_t weight_bytes, int num_frames,
                    const std::vector<Kind>& kinds) {
  VideoSize video = session.sizes.video;
  video.num_frames = num_frames;
  const Shape shape = latents_shape(dit.config(), size_latents(session.sizes.config, video));
  for (const bool is_sparse : {false, true}) {
    for (const bool is_offloaded : {false, true}) {
      std::vector<Kind> same;
      std::ranges::copy_if(kinds, std::back_inserter(same), [&](const Kind& kind) {
        return kind.is_sparse() == is_sparse && kind.is_offloaded == is_offloaded;
      });
      if (same.empty()) continue;
      DitRunner runner(session, dit, shape, is_sparse ? &session.sizes.sparsity : nullptr);
      Measurement result;
      result.num_frames = num_frames;
      result.num_tokens = runner.grid().num_tokens() + session.sizes.num_text_tokens;
      result.size = fmt::format("{} frames, {} tokens, {} layers", num_frames, result.num_tokens,
                                dit.config().depth);
      result.weight_bytes = weight_bytes;
      if (is_sparse) runner.allocate_state(is_offloaded ? kNoRoom : 0);
      for (int step = 0; is_sparse && step < kFirstSteps; ++step) {
        runner.run(*session.backend, step);
      }
      for (const Kind& kind : same) measure_kind(session, kind, runner, result);
    }
  }
}

}  // namespace

void bench_sparse(Session& session) {
  const std::vector<std::string>& names = session.request.names;
  std::vector<OpCase> known = list_sparse_cases(session.sizes);
  for (const Kind& kind : kKinds) known.push_back({kind.name, "", 0, 0, {}});
  std::vector<OpCase> cases = choose_cases(known, names);
  std::erase_if(cases, [](const OpCase& op) { return !op.make; });
  DitConfig config = session.sizes.config.dit;
  if (session.request.num_layers > 0) config.depth = session.request.num_layers;
  for (const int num_frames : frames_of(session)) {  // finds what is wrong first
    VideoSize video = session.sizes.video;
    video.num_frames = num_frames;
    size_latents(session.sizes.config, video);
  }
  measure_ceilings(session);
  for (const OpCase& op : cases) session.add(measure_op(session, op));

  std::vector<Kind> kinds;
  std::ranges::copy_if(kKinds, std::back_inserter(kinds),
                       [&](const Kind& kind) { return is_wanted(kind, names); });
  if (kinds.empty()) return;
  const RandomNetwork network(*session.backend, session.storage(), DitWeights(config));
  const Dit dit(network.weights);
  const std::uint64_t weight_bytes = network.store.size_bytes();
  for (const int num_frames : frames_of(session)) {
    // Copies overlap with the work at every length, so one length is enough.
    std::vector<Kind> some = kinds;
    if (num_frames != session.sizes.video.num_frames) {
      std::erase_if(some, [](const Kind& kind) { return kind.is_offloaded; });
    }
    measure_length(session, dit, weight_bytes, num_frames, some);
  }
}

}  // namespace mochi::bench
