#include "sparse_mlp.h"

#include <fmt/format.h>

#include <cmath>

#include "base/error.h"
#include "bench/measure.h"
#include "sparsity/column_plan.h"
#include "workloads.h"

namespace mochi::bench {
namespace {

constexpr double kMaxMlpError = 1e-5;
constexpr std::int64_t kBlockSize = 128;

class SparseMlpBench {
 public:
  SparseMlpBench(Backend& backend, const MlpSizes& sizes)
      : backend_(backend),
        scratch_(backend.allocator()),
        ctx_{backend, scratch_},
        sizes_(sizes),
        num_blocks_((sizes.num_tokens + kBlockSize - 1) / kBlockSize),
        x_(draw_normal(backend, {sizes.num_tokens, sizes.width}, 1)),
        w1_(draw_normal(backend, {2 * sizes.hidden, sizes.width}, 2)),
        w2_(draw_normal(backend, {sizes.width, sizes.hidden}, 3)),
        w2_rows_(DType::kF32, {sizes.hidden, sizes.width}, backend.allocator()),
        activations_(draw_normal(backend, {sizes.num_tokens, sizes.hidden}, 4)),
        out_(DType::kF32, {sizes.num_tokens, sizes.width}, backend.allocator()),
        means_(draw_normal(backend, {num_blocks_, 2 * sizes.hidden}, 5)) {
    // Scaled like a trained layer, whose gates and values are about one.
    for (float& weight : w1_.view().f32()) weight /= std::sqrt(static_cast<float>(sizes.width));
    backend.run(ops::Transpose{.x = w2_, .out = w2_rows_});
  }

  nlohmann::ordered_json run(const std::vector<double>& fractions, int num_repetitions) {
    verify();
    std::vector<ColumnPlan> plans;
    plans.reserve(fractions.size());
    for (const double kept : fractions) plans.push_back(choose(kept));
    std::vector<std::pair<std::string, Task>> tasks{{"dense", [&] {
                                                       const Arena::Scope scope(scratch_);
                                                       dense_mlp(ctx_, {x_, w1_, w2_});
                                                     }}};
    for (std::size_t i = 0; i < plans.size(); ++i) {
      tasks.emplace_back(name_of(fractions[i]), [&, i] { update(plans[i]); });
    }
    tasks.emplace_back("choose", [&] { choose(fractions.front()); });
    const auto seconds = take_turns(tasks, num_repetitions);
    nlohmann::ordered_json json{
        {"num_tokens", sizes_.num_tokens}, {"width", sizes_.width}, {"hidden", sizes_.hidden}};
    for (const auto& [name, task] : tasks) json["seconds"][name] = seconds.at(name);
    for (std::size_t i = 0; i < plans.size(); ++i) {
      const std::string name = name_of(fractions[i]);
      json["kept"][name] = plans[i].kept_fraction(backend_);
      json["speedup"][name] = seconds.at("dense") / seconds.at(name);
    }
    return json;
  }

 private:
  static std::string name_of(double kept) { return fmt::format("sparse, {:g} kept", kept); }

  // Chooses columns only by the movement of their means.
  ColumnPlan choose(double kept) {
    MlpSparsity mlp;
    mlp.top_keys = kept;
    mlp.random_keys = 0;
    mlp.counts_multiple_of = 1;
    mlp.block_size = kBlockSize;
    const Arena::Scope scope(scratch_);
    const TensorView inputs = ctx_.activation({num_blocks_, sizes_.width});
    const TensorView means = ctx_.activation(means_.view().shape());
    const TensorView scores = scratch_.allocate(DType::kF32, {1, num_blocks_, sizes_.hidden});
    backend_.run(ops::MeanRows{.x = x_, .out = inputs, .block_size = kBlockSize});
    backend_.run(ops::Linear{.x = inputs, .weight = w1_, .out = means});
    backend_.run(ops::FindMovement{.means = means, .former = means_, .scores = scores});
    const ColumnBits none(num_blocks_, sizes_.hidden);
    const ColumnRule rule(mlp);
    ColumnPlan plan(backend_, rule, scores.shape());
    plan.choose(ctx_, rule, upload_bits(backend_, none), scores, 0);
    return plan;
  }

  void update(const ColumnPlan& plan) {
    const Arena::Scope scope(scratch_);
    backend_.run(ops::ColumnSparseMlp{.x = x_,
                                      .w1 = w1_,
                                      .w2_rows = w2_rows_,
                                      .columns = plan.lists(ctx_),
                                      .activations = activations_,
                                      .out = out_,
                                      .means = means_});
  }

  void verify() {
    const Tensor other = draw_normal(backend_, x_.view().shape(), 6);
    dense_mlp(ctx_, {other, w1_, w2_}, activations_, out_);
    update(choose(1.0));
    const Arena::Scope scope(scratch_);
    const double error = relative_error(out_, dense_mlp(ctx_, {x_, w1_, w2_}));
    if (!(error <= kMaxMlpError)) fail("all columns differ from the dense layer by {:.1e}", error);
  }

  Backend& backend_;
  Arena scratch_;
  Context ctx_;
  MlpSizes sizes_;
  std::int64_t num_blocks_;
  Tensor x_, w1_, w2_, w2_rows_, activations_, out_, means_;
};

}  // namespace

nlohmann::ordered_json measure_sparse_mlp(Backend& backend, const MlpSizes& sizes,
                                          const std::vector<double>& fractions,
                                          int num_repetitions) {
  return SparseMlpBench(backend, sizes).run(fractions, num_repetitions);
}

}  // namespace mochi::bench
