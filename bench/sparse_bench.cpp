// Measures sparse attention and sparse feed-forward layers compared with dense ones, at one size:
// the operations, and whole steps of the transformer. Runs alternate. Prints one JSON object with
// medians.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <iostream>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/error.h"
#include "base/parallel_for.h"
#include "bench/measure.h"
#include "pipeline/request.h"
#include "sparse_mlp.h"
#include "sparsity/column_sparse_policy.h"
#include "workloads.h"

namespace mochi::bench {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kMaxError = 1e-5;
constexpr std::pair<std::int64_t, std::int64_t> kWideMlp{1024, 2730};  // width and hidden columns

struct Options {
  Setup setup{.model_dir = MOCHI_MICRO_DIR,
              .prompt = "a large green ring moves to the left on a dark background",
              .size = {.width = 640, .height = 384, .num_frames = 43}};
  std::filesystem::path config_file = MOCHI_CHIPMUNK_CONFIG;
  std::vector<double> kept{0.17, 0.10, 0.05};
  std::vector<double> mlp_kept{0.30, 0.10};
  int num_threads = 0;
  int num_repetitions = 5;
};

// Attention alone, on normally distributed values.
class Operations {
 public:
  Operations(Backend& backend, const DitConfig& config, std::int64_t num_tokens,
             const SparsityConfig& sparsity)
      : backend_(backend),
        scratch_(backend.allocator()),
        ctx_{backend, scratch_},
        sparsity_(sparsity),
        shape_{config.num_heads, num_tokens, config.head_dim()},
        q_(draw_normal(backend, shape_, 1)),
        k_(draw_normal(backend, shape_, 2)),
        v_(draw_normal(backend, shape_, 3)),
        out_(DType::kF32, {num_tokens, config.hidden_size_x}, backend.allocator()),
        lse_(DType::kF32, {config.num_heads, num_tokens}, backend.allocator()),
        former_lse_(DType::kF32, {config.num_heads, num_tokens}, backend.allocator()) {
    in_.q = q_;
    in_.k = k_;
    in_.v = v_;
    in_.scale = 1.0F / std::sqrt(static_cast<float>(config.head_dim()));
    const std::int64_t group_size = sparsity.attn.group_size;
    const std::int64_t num_groups = (num_tokens + group_size - 1) / group_size;
    sums_ = Tensor(DType::kF32, {config.num_heads, num_groups, num_tokens}, backend.allocator());
    cache_ = draw_normal(backend, out_.view().shape(), 4);
    weight_ = draw_normal(backend, lse_.view().shape(), 5);
    backend.run(ops::Attention{.in = in_, .to = {out_, former_lse_}});
    backend.run(ops::AttentionWithColumnSums{.in = in_,
                                             .scores_lse = former_lse_,
                                             .sums = sums_,
                                             .group_size = group_size,
                                             .query_stride = 1,
                                             .to = {out_, lse_}});
  }

  Json run(const std::vector<double>& fractions, int num_repetitions) {
    verify();
    std::vector<ColumnPlan> plans;
    plans.reserve(fractions.size());
    for (const double kept : fractions) plans.push_back(choose(kept));
    const std::int64_t group_size = sparsity_.attn.group_size;
    std::vector<std::pair<std::string, Task>> tasks{
        {"dense", [&] { backend_.run(ops::Attention{.in = in_, .to = {out_, lse_}}); }}};
    for (std::size_t i = 0; i < plans.size(); ++i) {
      tasks.emplace_back(name_of(fractions[i]), [&, i] {
        const Arena::Scope scope(scratch_);
        backend_.run(ops::ColumnSparseAttention{.in = in_,
                                                .columns = plans[i].lists(ctx_),
                                                .delta = {cache_, weight_, false},
                                                .to = {out_}});
      });
    }
    for (const std::int64_t stride : {1, 4}) {
      tasks.emplace_back(fmt::format("dense with column sums of every {}. query", stride),
                         [=, this] {
                           backend_.run(ops::AttentionWithColumnSums{.in = in_,
                                                                     .scores_lse = former_lse_,
                                                                     .sums = sums_,
                                                                     .group_size = group_size,
                                                                     .query_stride = stride,
                                                                     .to = {out_, lse_}});
                         });
    }
    tasks.emplace_back("select columns", [&] { choose(fractions.front()); });
    const auto seconds = take_turns(tasks, num_repetitions);
    Json json{{"num_tokens", shape_[1]}, {"heads", shape_[0]}, {"head_dim", shape_[2]}};
    for (const auto& [name, task] : tasks) json["seconds"][name] = seconds.at(name);
    const double dense = seconds.at("dense");
    for (std::size_t i = 0; i < plans.size(); ++i) {
      const std::string name = name_of(fractions[i]);
      json["kept"][name] = plans[i].kept_fraction(backend_);
      json["speedup"][name] = dense / seconds.at(name);
    }
    for (const std::int64_t stride : {1, 4}) {
      const auto name = fmt::format("dense with column sums of every {}. query", stride);
      json["cost of choosing, of a dense attention"][name] =
          (seconds.at(name) - dense + seconds.at("select columns")) / dense;
    }
    return json;
  }

 private:
  static std::string name_of(double kept) { return fmt::format("sparse, {:g} kept", kept); }

  // Chooses columns by score only.
  ColumnPlan choose(double kept) {
    AttentionSparsity attn = sparsity_.attn;
    attn.top_keys = kept;
    attn.random_keys = 0;
    attn.counts_multiple_of = 1;
    const ColumnBits none(sums_.view().dim(1), shape_[1]);
    const ColumnRule rule(attn);
    ColumnPlan plan(backend_, rule, sums_.view().shape());
    plan.choose(ctx_, rule, upload_bits(backend_, none), sums_, 0);
    return plan;
  }

  void verify() {
    const Tensor dense(DType::kF32, out_.view().shape(), backend_.allocator());
    backend_.run(ops::Attention{.in = in_, .to = {dense}});
    const ColumnPlan all = choose(1.0);
    const Arena::Scope scope(scratch_);
    backend_.run(ops::ColumnSparseAttention{.in = in_, .columns = all.lists(ctx_), .to = {out_}});
    const double error = relative_error(out_, dense);
    if (!(error <= kMaxError)) fail("all columns differ from dense attention by {:.1e}", error);
  }

  Backend& backend_;
  Arena scratch_;
  Context ctx_;
  const SparsityConfig& sparsity_;
  Shape shape_;
  Tensor q_, k_, v_, out_, lse_, former_lse_, sums_, cache_, weight_;
  AttentionInputs in_;
};

// Whole steps with both branches, in the third step of a generation.
class Steps {
 public:
  Steps(Backend& backend, const ModelDirectory& directory, const Setup& setup, const Latents& size,
        const SparsityConfig& sparsity)
      : network_(directory, {}, {backend, DType::kF32, no_observer_}),
        text_network_(directory, {backend, DType::kF32, no_observer_}),
        scratch_(backend.allocator()),
        ctx_{backend, scratch_},
        sigma_(static_cast<float>(setup.sigma)),
        grid_(dit().token_grid(size.num_frames, size.height, size.width)),
        policy_(sparsity, grid_, setup.seed),
        dense_run_(dit().prepare(backend, grid_)),
        sparse_run_(dit().prepare(backend, grid_, policy_.token_order())),
        latents_(draw_normal(backend, {size.channels, size.num_frames, size.height, size.width},
                             setup.seed)),
        velocity_(DType::kF32, latents_.view().shape(), backend.allocator()) {
    const std::int64_t max_tokens = dit().config().max_text_tokens;
    cond_ = dit().condition(ctx_, text_network_.encode(ctx_, setup.prompt, max_tokens, "prompt"));
    null_ = dit().condition(ctx_, text_network_.encode(ctx_, "", max_tokens, "prompt"));
  }

  std::int64_t num_visual_tokens() const { return grid_.num_tokens(); }
  std::int64_t num_tokens() const { return grid_.num_tokens() + cond_.tokens.view().dim(0); }

  Json run(int num_repetitions) {
    for (int step = 0; step < 2; ++step) run_step(policy_, sparse_run_, step);
    const auto seconds = take_turns({{"dense", [&] { run_step(dense_, dense_run_, 0); }},
                                     {"sparse", [&] { run_step(policy_, sparse_run_, 2); }},
                                     {"full", [&] { run_step(policy_, sparse_run_, 1); }}},
                                    num_repetitions);
    Json json{{"layers", dit().config().depth}};
    for (const char* name : {"dense", "full", "sparse"}) json["seconds"][name] = seconds.at(name);
    json["speedup of a sparse step"] = seconds.at("dense") / seconds.at("sparse");
    json["memory"] = measure_memory();
    return json;
  }

 private:
  const Dit& dit() const { return network_.dit(); }

  void run_step(BlockPolicy& policy, const DitRun& run, int step) {
    dit().forward(ctx_, run, {Branch::kCond, step, sigma_}, cond_, policy, latents_, velocity_);
    dit().forward(ctx_, run, {Branch::kNull, step, sigma_}, null_, policy, latents_, velocity_);
  }

  // Measures the bytes at the last layer's site of the conditional branch, and what the formulas
  // predict.
  Json measure_memory() const {
    const DitConfig& config = dit().config();
    const std::int64_t n = num_tokens();
    const std::int64_t num_groups =
        (n + policy_.config().attn.group_size - 1) / policy_.config().attn.group_size;
    Json json;
    const std::string site = fmt::format("cond.{}.", config.depth - 1);
    for (const StateTensor& saved : policy_.save(ctx_.backend)) {
      if (saved.name.starts_with(site)) {
        json["bytes"][saved.name.substr(site.size())] = saved.tensor.view().size_bytes();
      }
    }
    json["formula"] = {{"plan", config.num_heads * num_groups * ((n + 31) / 32) * 4},
                       {"cache", n * config.hidden_size_x * 4},
                       {"lse, weight", config.num_heads * n * 4}};
    return json;
  }

  Observer no_observer_;
  DitNetwork network_;
  TextNetwork text_network_;
  Arena scratch_;
  Context ctx_;
  float sigma_;
  TokenGrid grid_;
  DensePolicy dense_;
  ColumnSparsePolicy policy_;
  DitRun dense_run_, sparse_run_;
  Tensor latents_, velocity_;
  TextCondition cond_, null_;
};

void add_flags(CLI::App& app, Options& options) {
  app.add_option("--model-dir", options.setup.model_dir, "folder of the model");
  app.add_option("--chipmunk-config", options.config_file, "of the sparse steps");
  app.add_option("--width", options.setup.size.width, "pixels")->capture_default_str();
  app.add_option("--height", options.setup.size.height, "pixels")->capture_default_str();
  app.add_option("--num-frames", options.setup.size.num_frames, "6k + 1")->capture_default_str();
  app.add_option("--kept", options.kept, "fractions of columns")->delimiter(',');
  app.add_option("--mlp-kept", options.mlp_kept, "fractions of hidden columns")->delimiter(',');
  app.add_option("--threads", options.num_threads, "0: all cores")->capture_default_str();
  app.add_option("--repetitions", options.num_repetitions, "of which the median is printed")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
}

int run(int argc, char** argv) {
  Options options;
  CLI::App app("Measures sparse attention and feed-forward layers and dense ones.",
               "mochi_sparse_bench");
  add_flags(app, options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  }
  set_num_threads(options.num_threads);
  const std::unique_ptr<Backend> backend = make_backend(Device::cpu());
  const ModelDirectory directory(options.setup.model_dir);
  const SparsityConfig sparsity = load_sparsity_config(options.config_file).config;
  const Latents size = size_latents(directory.config(), options.setup.size);
  Steps steps(*backend, directory, options.setup, size, sparsity);
  Operations operations(*backend, directory.config().dit, steps.num_tokens(), sparsity);
  const DitConfig& dit = directory.config().dit;
  const auto measure_mlp = [&](std::int64_t width, std::int64_t hidden) {
    return measure_sparse_mlp(*backend, {steps.num_visual_tokens(), width, hidden},
                              options.mlp_kept, options.num_repetitions);
  };
  const Json json{{"num_threads", num_threads()},
                  {"attention", operations.run(options.kept, options.num_repetitions)},
                  {"feed-forward", measure_mlp(dit.hidden_size_x, dit.mlp_hidden_x)},
                  {"wide feed-forward", measure_mlp(kWideMlp.first, kWideMlp.second)},
                  {"step", steps.run(options.num_repetitions)}};
  std::cout << json.dump(2) << "\n";
  return 0;
}

}  // namespace
}  // namespace mochi::bench

int main(int argc, char** argv) {
  try {
    return mochi::bench::run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "mochi_sparse_bench: {}\n", error.what());
    return 1;
  }
}
